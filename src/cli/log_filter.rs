//! Which lines of logs are asked for.

use clap::Args;
use regex::Regex;
use serde_json::Value;

use super::error::{CommandError, USAGE};
use super::log_line::{LEVELS, fields, human, rank};
use crate::supervisor::tail::Line;

/// Which lines are asked for.
#[derive(Clone, Debug, Default, Args)]
pub struct FilterArgs {
    /// Only lines that match a regular expression
    #[arg(long, value_name = "REGEX")]
    grep: Option<String>,
    /// Only requests that were answered so, such as 404, 4xx or 401,5xx
    #[arg(long, value_name = "CODES", value_delimiter = ',')]
    status: Vec<String>,
    /// Only requests to a repository, and those below it
    #[arg(long, value_name = "NAME")]
    repo: Option<String>,
    /// Only lines of a level or above: debug, info, warning, error, fatal
    #[arg(long, value_parser = LEVELS)]
    level: Option<String>,
}

/// Which lines are shown.
#[derive(Debug, Default)]
pub struct Filter {
    grep: Option<Regex>,
    status: Vec<String>,
    repo: Option<String>,
    level: usize,
}

impl Filter {
    /// Reads what is asked for.
    ///
    /// # Errors
    /// When it is no regular expression, or no code.
    pub fn of(args: &FilterArgs) -> Result<Self, CommandError> {
        let wrong = |what: String| CommandError {
            code: USAGE,
            ..CommandError::user(what)
        };
        let grep = args.grep.as_deref().map(Regex::new).transpose();
        let grep = grep.map_err(|error| wrong(format!("--grep: {error}")))?;
        for code in args.status.iter().filter(|code| !code.is_empty()) {
            let is_code = code.len() == 3
                && matches!(code.as_bytes()[0], b'1'..=b'5')
                && code.bytes().skip(1).all(|byte| byte.is_ascii_digit() || byte == b'x');
            if !is_code {
                return Err(wrong(format!("--status: {code} is no code such as 404 or 5xx")));
            }
        }
        let level = args.level.as_deref().and_then(rank).unwrap_or_default();
        Ok(Self {
            grep,
            status: args.status.iter().filter(|code| !code.is_empty()).cloned().collect(),
            repo: args.repo.as_ref().map(|name| name.trim_matches('/').to_owned()),
            level,
        })
    }

    /// Says whether a line is asked for.
    pub fn lets(&self, line: &Line) -> bool {
        // As it is stored, or as it is shown.
        let matches = |grep: &Regex| {
            let shown = human(line, 0);
            grep.is_match(&line.text) || grep.is_match(&anstream::adapter::strip_str(&shown).to_string())
        };
        if self.grep.as_ref().is_some_and(|grep| !matches(grep)) {
            return false;
        }
        if self.status.is_empty() && self.repo.is_none() && self.level == 0 {
            return true;
        }
        let fields = fields(&line.text).unwrap_or_default();
        let status = fields.get("status").map(Value::to_string).unwrap_or_default();
        let is_like = |code: &String| {
            let mut pairs = code.bytes().zip(status.bytes());
            status.len() == code.len() && pairs.all(|(wanted, there)| wanted == b'x' || wanted == there)
        };
        if !self.status.is_empty() && !self.status.iter().any(is_like) {
            return false;
        }
        if let Some(repo) = &self.repo {
            let uri = fields.get("uri").and_then(Value::as_str).unwrap_or_default();
            let below = uri.split_once("/v2/").map(|(_, rest)| rest).unwrap_or_default();
            let is_its = below
                .strip_prefix(repo.as_str())
                .is_some_and(|rest| rest.starts_with('/'));
            if !is_its && fields.get("repository").and_then(Value::as_str) != Some(repo) {
                return false;
            }
        }
        let level = fields.get("level").and_then(Value::as_str).and_then(rank);
        level.unwrap_or(1) >= self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        Line {
            stamp: "2026-11-28_14:36:57.72130".to_owned(),
            service: "registry".to_owned(),
            text: text.to_owned(),
        }
    }

    const REQUEST: &str = r#"{"auth_user_name":"root","correlation_id":"c","duration_ms":12,"level":"info","method":"GET","msg":"access","status":404,"uri":"/v2/a/b/manifests/v1","user_agent":"skopeo/1.9.3 (x)","version":"v","written_bytes":111}"#;

    #[test]
    fn filters_let_through_what_is_asked_for() {
        let lets = |args: FilterArgs, text: &str| Filter::of(&args).expect("valid").lets(&line(text));
        let status = |codes: &[&str]| FilterArgs {
            status: codes.iter().map(|code| (*code).to_owned()).collect(),
            ..FilterArgs::default()
        };
        assert!(lets(status(&["404"]), REQUEST) && lets(status(&["5xx", "4xx"]), REQUEST));
        assert!(!lets(status(&["401"]), REQUEST) && !lets(status(&["2xx"]), "no request"));
        assert!(Filter::of(&status(&["9xx"])).is_err() && Filter::of(&status(&["40"])).is_err());
        let repo = |name: &str| FilterArgs {
            repo: Some(name.to_owned()),
            ..FilterArgs::default()
        };
        assert!(lets(repo("a/b"), REQUEST) && lets(repo("a"), REQUEST));
        assert!(!lets(repo("a/bb"), REQUEST) && !lets(repo("b"), REQUEST));
        let level = |level: &str| FilterArgs {
            level: Some(level.to_owned()),
            ..FilterArgs::default()
        };
        assert!(lets(level("info"), REQUEST) && !lets(level("warning"), REQUEST));
        assert!(lets(level("warning"), r#"{"level":"error","msg":"x"}"#));
        let grep = FilterArgs {
            grep: Some("skopeo|podman".to_owned()),
            ..FilterArgs::default()
        };
        assert!(lets(grep.clone(), REQUEST) && !lets(grep, "docker"));
    }
}
