//! Ranges: of a blob that is read, of an upload that is written.

/// The part of a blob that a request asks for (RFC 9110, section 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// All of it: no `Range`, or one that may be ignored.
    Whole,
    /// From the first byte to the last, inclusive.
    Part {
        /// First byte.
        first: u64,
        /// Last byte.
        last: u64,
    },
    /// Nothing of the blob lies in the range.
    Unsatisfiable,
}

impl ByteRange {
    /// Reads a `Range` header against content of `size` bytes.
    ///
    /// A header of another unit, of several ranges, or malformed is ignored,
    /// which RFC 9110 allows.
    pub fn parse(header: Option<&str>, size: u64) -> Self {
        let Some(spec) = header.and_then(|header| header.trim().strip_prefix("bytes=")) else {
            return Self::Whole;
        };
        let Some((first, last)) = spec.split_once('-') else {
            return Self::Whole;
        };
        let (first, last) = (first.trim(), last.trim());
        let (first, last) = match (digits(first), digits(last)) {
            (None, Some(suffix)) if first.is_empty() => {
                if suffix == 0 || size == 0 {
                    return Self::Unsatisfiable;
                }
                (size.saturating_sub(suffix), size - 1)
            }
            (Some(first), None) if last.is_empty() => (first, size.saturating_sub(1)),
            (Some(first), Some(last)) if first <= last => (first, last.min(size.saturating_sub(1))),
            _ => return Self::Whole,
        };
        if first >= size {
            Self::Unsatisfiable
        } else {
            Self::Part { first, last }
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
        let part = |first, last| ByteRange::Part { first, last };
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
        fn a_part_lies_within_the_blob(header in "bytes=[0-9]{0,21}-[0-9]{0,21}", size in 0_u64..1000) {
            if let ByteRange::Part { first, last } = ByteRange::parse(Some(&header), size) {
                proptest::prop_assert!(first <= last && last < size);
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
