//! The table: which client does what, by which line.
//!
//! Lines are for bash. `$A` is the registry's address, `$P` the client's flag
//! for plain HTTP where it needs one, `$C` its option for the certificate
//! where nothing else tells it, `$T` a personal access token, `$N` a part of
//! names that is the client's own. `base` is an image that is there before;
//! `../large` is an OCI layout of an image with a layer of 300 MB, `../noise`
//! the file in it. `prelude.sh` has the words that compare (`whole`, `same`)
//! and those that do something to a line: `ten`, `struck`, `struck_again`.

mod copiers;
mod engines;
mod signers;

use super::Setup;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Login,
    Push,
    Pull,
    List,
    Tag,
    CopyWithin,
    CopyBetween,
    Index,
    Artifact,
    Referrers,
    Sign,
    Verify,
    Attest,
    Large,
    Interrupted,
    Parallel,
    Delete,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Login,
        Self::Push,
        Self::Pull,
        Self::List,
        Self::Tag,
        Self::CopyWithin,
        Self::CopyBetween,
        Self::Index,
        Self::Artifact,
        Self::Referrers,
        Self::Sign,
        Self::Verify,
        Self::Attest,
        Self::Large,
        Self::Interrupted,
        Self::Parallel,
        Self::Delete,
    ];

    /// Says whether once for each setup is enough, whatever the address.
    pub fn is_heavy(self) -> bool {
        matches!(self, Self::Large | Self::Interrupted)
    }

    /// Returns the word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Push => "push",
            Self::Pull => "pull",
            Self::List => "list",
            Self::Tag => "tag",
            Self::CopyWithin => "copy within a repository",
            Self::CopyBetween => "copy to another repository",
            Self::Index => "multi-arch index",
            Self::Artifact => "artifact with a subject",
            Self::Referrers => "referrers",
            Self::Sign => "sign",
            Self::Verify => "verify",
            Self::Attest => "attest",
            Self::Large => "a layer of 300 MB",
            Self::Interrupted => "a push that is interrupted, and goes on",
            Self::Parallel => "ten pushes at once",
            Self::Delete => "delete",
        }
    }
}

/// A client and what it does.
pub struct Client {
    /// Its name, as people type it.
    pub name: &'static str,
    /// Flag by which it takes plain HTTP, and whether it needs none on loopback.
    pub plain: (&'static str, bool),
    /// Option that names the certificate, where it has one.
    pub certificate: Option<&'static str>,
    /// Runs before all, for each address; no operation of its own.
    pub prepare: &'static str,
    /// The operations in their order.
    pub steps: &'static [(Operation, &'static str)],
    /// The operations that it does not have.
    pub lacks: &'static [Operation],
    /// What it does not manage for reasons of its own, where, and what it then
    /// says: the same as beside another registry.
    pub faults: &'static [(Operation, Setup, &'static str)],
    /// What a reader should know besides.
    pub note: &'static str,
}

impl Client {
    /// Returns what it says where an operation fails for its own reasons.
    pub fn fault(&self, operation: Operation, setup: Setup) -> Option<&'static str> {
        let at = |(failing, place, _): &&(Operation, Setup, &str)| *failing == operation && *place == setup;
        self.faults.iter().find(at).map(|(_, _, says)| *says)
    }

    /// Returns the flag for plain HTTP that a setup takes.
    pub fn plain_flag(&self, setup: Setup) -> &'static str {
        match (setup, self.plain) {
            (Setup::Https | Setup::HttpsOption, _) | (Setup::Loopback | Setup::Database, (_, true)) => "",
            (_, (flag, _)) => flag,
        }
    }
}

/// All clients.
pub const CLIENTS: &[&Client] = &[
    &engines::DOCKER,
    &engines::PODMAN,
    &engines::BUILDAH,
    &copiers::SKOPEO,
    &copiers::CRANE,
    &copiers::REGCTL,
    &copiers::ORAS,
    &copiers::HELM,
    &signers::COSIGN,
    &signers::COSIGN2,
    &signers::KO,
    &engines::CTR,
    &engines::BUILDCTL,
    &engines::BUILDX,
];
