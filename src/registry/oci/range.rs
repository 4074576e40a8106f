//! Ranges: of a blob that is read, of an upload that is written.

/// Ranges that one request may ask for; more are answered with the whole,
/// which RFC 9110 (section 14.2) recommends against abuse. Partial pulls of
/// `zstd:chunked` layers ask for hundreds.
const MAX_RANGES: usize = 1024;

/// A part of a blob, from the first byte to the last, inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// First byte.
    pub first: u64,
    /// Last byte.
    pub last: u64,
}

impl Part {
    /// Returns the number of bytes.
    pub fn length(self) -> u64 {
        self.last - self.first + 1
    }
}

/// What of a blob a request asks for (RFC 9110, section 14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// All of it: no `Range`, or one that may be ignored.
    Whole,
    /// One or more parts.
    Parts(Vec<Part>),
    /// Nothing of the blob lies in the range.
    Unsatisfiable,
}

impl ByteRange {
    /// Reads a `Range` header against content of `size` bytes.
    ///
    /// A header of another unit, or malformed, is ignored, which RFC 9110 allows.
    pub fn parse(header: Option<&str>, size: u64) -> Self {
        let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
            return Self::Whole;
        };
        let mut parts = Vec::new();
        for (number, item) in spec.split(',').enumerate() {
            if number == MAX_RANGES {
                return Self::Whole;
            }
            match One::parse(item, size) {
                One::Malformed => return Self::Whole,
                One::Outside => {}
                One::Part(part) => parts.push(part),
            }
        }
        // They would multiply what is sent.
        if overlap(&parts) {
            return Self::Whole;
        }
        if parts.is_empty() {
            Self::Unsatisfiable
        } else {
            Self::Parts(parts)
        }
    }
}

/// Says whether any parts have bytes in common.
fn overlap(parts: &[Part]) -> bool {
    let mut sorted = parts.to_vec();
    sorted.sort_unstable_by_key(|part| part.first);
    sorted.windows(2).any(|two| two[1].first <= two[0].last)
}

/// One range of a header.
enum One {
    Malformed,
    /// Nothing of the content lies in it.
    Outside,
    Part(Part),
}

impl One {
    fn parse(item: &str, size: u64) -> Self {
        let Some((first, last)) = item.trim().split_once('-') else {
            return Self::Malformed;
        };
        let (first, last) = (first.trim(), last.trim());
        let (first, last) = match (digits(first), digits(last)) {
            (None, Some(0)) if first.is_empty() => return Self::Outside,
            (None, Some(suffix)) if first.is_empty() => (size.saturating_sub(suffix), size.saturating_sub(1)),
            (Some(first), None) if last.is_empty() => (first, size.saturating_sub(1)),
            (Some(first), Some(last)) if first <= last => (first, last.min(size.saturating_sub(1))),
            _ => return Self::Malformed,
        };
        if first < size {
            Self::Part(Part { first, last })
        } else {
            Self::Outside
        }
    }
}

/// A chunk's place in an upload: `Content-Range: first-last`, without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// First byte.
    pub first: u64,
    /// Last byte, inclusive.
    pub last: u64,
}

impl ContentRange {
    /// Reads the header; a `bytes ` unit and a `/total` are tolerated.
    pub fn parse(header: &str) -> Option<Self> {
        let text = header.trim();
        let text = text
            .strip_prefix("bytes")
            .map_or(text, |rest| rest.trim_start_matches([' ', '=']));
        let text = text.split('/').next().unwrap_or_default();
        let (first, last) = text.split_once('-')?;
        let (first, last) = (digits(first.trim())?, digits(last.trim())?);
        (first <= last).then_some(Self { first, last })
    }

    /// Returns the number of bytes.
    pub fn length(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

/// Reads decimal digits only: no sign, no space.
fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Writes what an upload holds: `0-N`, where N is the last byte (0 for an empty one).
pub fn upload_range(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_ranges() {
        let part = |first, last| ByteRange::Parts(vec![Part { first, last }]);
        for (header, expected) in [
            (None, ByteRange::Whole),
            (Some("bytes=0-0"), part(0, 0)),
            (Some("bytes=5-9"), part(5, 9)),
            (Some("bytes=5-"), part(5, 9)),
            (Some("bytes=5-500"), part(5, 9)),
            (Some("bytes=-4"), part(6, 9)),
            (Some("bytes=-40"), part(0, 9)),
            (Some("bytes=10-"), ByteRange::Unsatisfiable),
            (Some("bytes=-0"), ByteRange::Unsatisfiable),
            (Some("bytes=9-5"), ByteRange::Whole),
            (Some("bytes=+1-2"), ByteRange::Whole),
            (Some("items=1-2"), ByteRange::Whole),
            (
                Some("bytes=0-1, 5-6,-1"),
                ByteRange::Parts(vec![
                    Part { first: 0, last: 1 },
                    Part { first: 5, last: 6 },
                    Part { first: 9, last: 9 },
                ]),
            ),
            (Some("bytes=0-1,20-"), part(0, 1)),
            (Some("bytes=20-,30-"), ByteRange::Unsatisfiable),
            (Some("bytes=0-8,0-8"), ByteRange::Whole),
            (Some("bytes=4-5,0-1,5-6"), ByteRange::Whole),
            (
                Some("bytes=8-9,0-1"),
                ByteRange::Parts(vec![Part { first: 8, last: 9 }, Part { first: 0, last: 1 }]),
            ),
            (Some("bytes=0-1,x"), ByteRange::Whole),
        ] {
            assert_eq!(ByteRange::parse(header, 10), expected, "{header:?}");
        }
    }

    #[test]
    fn content_ranges() {
        assert_eq!(ContentRange::parse("0-9").map(ContentRange::length), Some(10));
        assert_eq!(
            ContentRange::parse("bytes 10-19/20"),
            Some(ContentRange { first: 10, last: 19 })
        );
        assert_eq!(ContentRange::parse("9-0"), None);
        assert_eq!(
            ContentRange::parse("0-18446744073709551615").map(ContentRange::length),
            Some(u64::MAX)
        );
    }

    proptest::proptest! {
        #[test]
        fn a_part_lies_within_the_blob(header in "bytes=[0-9]{0,21}-[0-9]{0,21}(,[0-9]{0,3}-[0-9]{0,3}){0,20}", size in 0_u64..1000) {
            if let ByteRange::Parts(parts) = ByteRange::parse(Some(&header), size) {
                proptest::prop_assert!(!parts.is_empty() && parts.len() <= MAX_RANGES);
                proptest::prop_assert!(parts.iter().all(|part| part.first <= part.last && part.last < size));
            }
        }

        #[test]
        fn content_range_never_panics(header in ".{0,40}") {
            if let Some(range) = ContentRange::parse(&header) {
                proptest::prop_assert!(range.length() >= 1);
            }
        }
    }
}
