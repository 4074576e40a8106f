//! Reading logs: the last lines, and those that follow.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom};
use std::time::Duration;

use camino::Utf8PathBuf;

use super::log::old_logs;

/// Length of a stamp such as `2024-09-26_21:36:36.51052`.
const STAMP: usize = 25;
/// Pause between two looks at the files while following.
const LOOK: Duration = Duration::from_millis(50);

/// A line of a service's log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// When it was written (UTC).
    pub stamp: String,
    /// By which service.
    pub service: String,
    /// What.
    pub text: String,
}

impl Line {
    fn parse(service: &str, raw: &str) -> Self {
        let (stamp, text) = match raw.split_at_checked(STAMP) {
            Some((stamp, text)) if stamp.as_bytes()[10] == b'_' => (stamp, text.strip_prefix(' ').unwrap_or(text)),
            _ => ("", raw),
        };
        Self {
            stamp: stamp.to_owned(),
            service: service.to_owned(),
            text: text.to_owned(),
        }
    }
}

/// The log of one service.
pub struct Source {
    service: String,
    path: Utf8PathBuf,
    open: Option<(File, u64)>,
    partial: String,
}

impl Source {
    /// Names a log; it need not exist yet.
    pub fn new(service: &str, path: Utf8PathBuf) -> Self {
        Self {
            service: service.to_owned(),
            path,
            open: None,
            partial: String::new(),
        }
    }

    /// Returns the last `count` lines not older than `since`, and remembers where they end.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn last(&mut self, count: usize, since: Option<&str>) -> io::Result<Vec<Line>> {
        self.last_of(count, since, |_| true)
    }

    /// Returns the last `count` lines not older than `since` that are asked for, and
    /// remembers where they end.
    ///
    /// # Errors
    /// When a log cannot be read.
    pub fn last_of(
        &mut self,
        count: usize,
        since: Option<&str>,
        is_asked: impl Fn(&Line) -> bool,
    ) -> io::Result<Vec<Line>> {
        let mut found = Vec::new();
        let current = match File::open(&self.path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let Some(mut file) = current {
            found = self.lines_of(&mut file, since, &is_asked)?;
            let end = file.stream_position()?;
            self.open = Some((file, end));
        }
        // A log that was put aside a moment ago may hold the rest.
        for old in old_logs(&self.path).iter().rev() {
            if found.len() >= count {
                break;
            }
            let mut earlier = self.lines_of(&mut File::open(old)?, since, &is_asked)?;
            earlier.append(&mut found);
            found = earlier;
        }
        found.drain(..found.len().saturating_sub(count));
        Ok(found)
    }

    fn lines_of(
        &self,
        file: &mut File,
        since: Option<&str>,
        is_asked: &impl Fn(&Line) -> bool,
    ) -> io::Result<Vec<Line>> {
        let mut found = Vec::new();
        let mut reader = BufReader::new(file);
        let mut raw = Vec::new();
        while reader.read_until(b'\n', &mut raw)? > 0 {
            let line = Line::parse(&self.service, String::from_utf8_lossy(&raw).trim_end_matches('\n'));
            if since.is_none_or(|since| line.stamp.as_str() >= since) && is_asked(&line) {
                found.push(line);
            }
            raw.clear();
        }
        Ok(found)
    }

    /// Returns the lines that came since the last call.
    fn next(&mut self) -> io::Result<Vec<Line>> {
        use std::os::unix::fs::MetadataExt as _;
        let mut found = Vec::new();
        if let Some((mut file, offset)) = self.open.take() {
            let end = self.read_on(&mut file, offset, &mut found)?;
            let same = std::fs::metadata(&self.path).is_ok_and(|now| {
                file.metadata()
                    .is_ok_and(|mine| mine.ino() == now.ino() && now.len() >= end)
            });
            if same {
                self.open = Some((file, end));
            }
        }
        if self.open.is_none()
            && let Ok(mut file) = File::open(&self.path)
        {
            self.partial.clear();
            let end = self.read_on(&mut file, 0, &mut found)?;
            self.open = Some((file, end));
        }
        Ok(found)
    }

    fn read_on(&mut self, file: &mut File, offset: u64, found: &mut Vec<Line>) -> io::Result<u64> {
        file.seek(SeekFrom::Start(offset))?;
        let mut reader = BufReader::new(file);
        let mut raw = Vec::new();
        let mut end = offset;
        loop {
            raw.clear();
            let read = reader.read_until(b'\n', &mut raw)?;
            if read == 0 {
                return Ok(end);
            }
            end += read as u64;
            self.partial.push_str(&String::from_utf8_lossy(&raw));
            if self.partial.ends_with('\n') {
                found.push(Line::parse(&self.service, self.partial.trim_end_matches('\n')));
                self.partial.clear();
            }
        }
    }
}

/// Hands over lines as they come, in the order of their stamps, until `show` says stop.
///
/// # Errors
/// When a log cannot be read.
pub fn follow(sources: &mut [Source], mut show: impl FnMut(&Line) -> bool) -> io::Result<()> {
    loop {
        let mut fresh = Vec::new();
        for source in sources.iter_mut() {
            fresh.extend(source.next()?);
        }
        fresh.sort_by(|a, b| a.stamp.cmp(&b.stamp));
        for line in &fresh {
            if !show(line) {
                return Ok(());
            }
        }
        std::thread::sleep(LOOK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_and_followed_across_rotation() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = Utf8PathBuf::from_path_buf(directory.path().join("current")).expect("UTF-8");
        let write = |path: &Utf8PathBuf, text: &str| {
            crate::sys::fs::write_atomic(path, text.as_bytes(), 0o644).expect("written");
        };
        write(
            &path.with_file_name("@2024-09-26_21:36:00.00000.log"),
            "2024-09-26_21:36:00.00000 old\n",
        );
        write(&path, "2024-09-26_21:36:36.51052 one\n2024-09-26_21:36:37.51052 two\n");
        let mut source = Source::new("registry", path.clone());
        let texts = |lines: Vec<Line>| lines.into_iter().map(|line| line.text).collect::<Vec<_>>();
        assert_eq!(texts(source.last(2, None).expect("read")), ["one", "two"]);
        assert_eq!(
            texts(Source::new("registry", path.clone()).last(9, None).expect("read")),
            ["old", "one", "two"]
        );
        let since = Source::new("registry", path.clone())
            .last(9, Some("2024-09-26_21:36:37"))
            .expect("read");
        assert_eq!(texts(since), ["two"]);
        std::fs::rename(&path, path.with_file_name("@2024-09-26_21:36:38.00000.log")).expect("moved");
        write(&path, "2024-09-26_21:36:38.51052 three\n");
        assert_eq!(texts(source.next().expect("read")), ["three"]);
    }
}
