//! What was found, as values: commands render them.

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It works, and something about it may surprise.
    Warning,
    /// Something does not work.
    Problem,
}

/// Something that a user should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is, for programs; stays the same from version to version.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What was seen.
    pub evidence: String,
    /// Why it matters; empty where the evidence says it.
    pub why: &'static str,
    /// Commands that mend it, each as program and arguments.
    pub fix: Vec<Vec<String>>,
    /// Whether `kdk doctor --fix` may run them.
    pub is_safe: bool,
    /// What a person does where no command can.
    pub by_hand: Option<String>,
}

impl Finding {
    /// Something that does not work.
    pub fn problem(id: &'static str, evidence: impl Into<String>) -> Self {
        Self::new(id, Severity::Problem, evidence.into())
    }

    /// Something that may surprise.
    pub fn warning(id: &'static str, evidence: impl Into<String>) -> Self {
        Self::new(id, Severity::Warning, evidence.into())
    }

    fn new(id: &'static str, severity: Severity, evidence: String) -> Self {
        Self {
            id,
            severity,
            evidence,
            why: "",
            fix: Vec::new(),
            is_safe: false,
            by_hand: None,
        }
    }

    /// Says why it matters.
    #[must_use]
    pub fn why(mut self, why: &'static str) -> Self {
        self.why = why;
        self
    }

    /// Adds a command of kdk's that mends it, and that a program may run: it
    /// removes nothing and restarts no engine.
    #[must_use]
    pub fn mended_by(mut self, arguments: &[&str]) -> Self {
        self.is_safe = true;
        self.fix.push(kdk(arguments));
        self
    }

    /// Adds a command of kdk's that a person should choose.
    #[must_use]
    pub fn suggest(mut self, arguments: &[&str]) -> Self {
        self.is_safe = false;
        self.fix.push(kdk(arguments));
        self
    }

    /// Says what a person does.
    #[must_use]
    pub fn by_hand(mut self, what: impl Into<String>) -> Self {
        self.by_hand = Some(what.into());
        self
    }
}

fn kdk(arguments: &[&str]) -> Vec<String> {
    std::iter::once("kdk")
        .chain(arguments.iter().copied())
        .map(str::to_owned)
        .collect()
}

/// What a check came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is to be said.
    Healthy,
    /// Something is.
    Found(Vec<Finding>),
    /// There is nothing to check, and why.
    Skipped(String),
    /// It could not be checked, and why.
    Unknown(String),
}

impl From<Vec<Finding>> for Verdict {
    fn from(findings: Vec<Finding>) -> Self {
        if findings.is_empty() {
            Self::Healthy
        } else {
            Self::Found(findings)
        }
    }
}
