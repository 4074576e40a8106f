//! How each client is set up for the registry: `kdk setup`.
//!
//! A client is one file here and one line in [`ALL`]. It says whether it is
//! on this machine, and plans what is to be in which file, or what is to be
//! pasted where; printing, applying, taking back and the state follow from
//! the plan.

pub mod apply;
mod autodevops;
mod buildkit;
mod ci;
mod client;
pub mod containerd;
mod dind;
pub mod docker;
mod docker_elsewhere;
mod docker_kind;
pub mod edit;
mod external_registry;
pub mod file;
mod generic;
mod hosts;
mod k3d;
mod kind;
mod kubernetes;
mod microk8s;
mod minikube;
mod nginx;
mod pipeline;
pub mod plan;
pub mod podman;
mod record;
pub mod runner;
mod scanning;
mod script;
pub mod toml;
mod trust_store;

pub use client::{Client, NginxOptions, Scene};

/// Every client, in the order in which they are listed.
pub const ALL: [&dyn Client; 19] = [
    &docker::Docker,
    &podman::Podman,
    &containerd::Containerd,
    &buildkit::Buildkit,
    &dind::Dind,
    &ci::Ci,
    &runner::Runner,
    &scanning::Scanning,
    &autodevops::AutoDevOps,
    &nginx::Nginx,
    &external_registry::ExternalRegistry,
    &kubernetes::Kubernetes,
    &minikube::Minikube,
    &kind::Kind,
    &k3d::K3d,
    &microk8s::Microk8s,
    &hosts::Hosts,
    &trust_store::TrustStore,
    &generic::Generic,
];

/// Returns the client with a name, or another name of it.
pub fn find(name: &str) -> Option<&'static dyn Client> {
    ALL.into_iter()
        .find(|client| client.name() == name || client.aliases().contains(&name))
}
