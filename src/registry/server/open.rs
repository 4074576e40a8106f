//! Putting a server together.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use tokio::sync::RwLock;
use tokio_util::task::TaskTracker;

use super::error::StartError;
use super::{lease, logging, metadata};
use crate::registry::auth::Authorizer;
use crate::registry::config::Config;
use crate::registry::health::Health;
use crate::registry::http::Shared;
use crate::registry::metrics::Metrics;
use crate::registry::notify::Notifier;
use crate::registry::state::control::Socket;
use crate::registry::state::{StateDir, secret};
use crate::registry::storage::lease::{Holder, Work};
use crate::registry::storage::upload_state::StateSigner;
use crate::registry::storage::{Blobs, Storage, Uploads};
use crate::serve::{Forward, Listener, tls};

/// A server that is ready to take connections.
pub struct Registry {
    pub(super) shared: Arc<Shared>,
    pub(super) storage: Storage,
    pub(super) state: StateDir,
    /// What others read of this server.
    pub(super) holder: Arc<Mutex<Holder>>,
    pub(super) socket: Option<Socket>,
    pub(super) listener: Listener,
    pub(super) tls: Option<tls::Tls>,
    pub(super) debug: Option<Listener>,
}

impl Registry {
    /// Opens the storage, loads keys, listens.
    ///
    /// # Errors
    /// When one of these fails.
    pub async fn open(mut config: Config) -> Result<Self, StartError> {
        logging::init(&config);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let (storage, state) = storage_of(&config)?;
        let mut holder = Holder::own(Work::Serve);
        let mut socket = None;
        let is_asked = config.storage.readonly;
        if !(config.storage.readonly || config.storage.in_memory) {
            if lease::acquire(&config, &storage, &state, &holder).await? {
                socket = lease::open_socket(&state, &mut holder);
            } else {
                config.storage.readonly = true;
            }
        }
        let secret = secret_of(&config, &state)?;
        let authorizer = Authorizer::new(config.auth.as_ref())?;
        let forward = forward_of(&config)?;
        let tls = tls_of(&config)?;
        let listener = if config.http.unix {
            Listener::unix(config.http.addr.clone().into())
        } else {
            Listener::tcp(&config.http.addr).await
        };
        let listener = listener.map_err(StartError::Listen)?;
        if let Some(forward) = &forward {
            forward.check(listener.address())?;
        }
        let debug = match &config.http.debug_addr {
            None => None,
            Some(address) => Some(Listener::tcp(address).await.map_err(StartError::Listen)?),
        };
        holder.address = Some(listener.to_string());
        storage.describe(&holder);
        let metadata = metadata::open(&config, &storage).await?;
        let metrics = Arc::<Metrics>::default();
        let journals = state.notifications();
        let notifier = Notifier::start(&config.endpoints, journals.as_deref(), &metrics.notifications);
        let shared = Shared {
            blobs: Blobs::new(storage.clone()),
            uploads: Uploads::new(storage.clone()),
            metadata,
            notifier: Arc::new(notifier),
            tasks: TaskTracker::new(),
            readonly: AtomicBool::new(config.storage.readonly),
            readonly_unasked: AtomicBool::new(config.storage.readonly && !is_asked),
            changes: RwLock::default(),
            health: Arc::<Health>::default(),
            metrics,
            signer: StateSigner::new(&secret),
            forward,
            authorizer,
            config,
        };
        Ok(Self {
            shared: Arc::new(shared),
            storage,
            state,
            holder: Arc::new(Mutex::new(holder)),
            socket,
            listener,
            tls,
            debug,
        })
    }
}

fn storage_of(config: &Config) -> Result<(Storage, StateDir), StartError> {
    if config.storage.in_memory {
        let state = StateDir::volatile().map_err(StartError::Storage)?;
        return Ok((Storage::in_memory(), state));
    }
    let root = &config.storage.root;
    let storage = Storage::in_directory(root).map_err(StartError::Storage)?;
    Ok((storage, StateDir::beside(root)))
}

fn secret_of(config: &Config, state: &StateDir) -> Result<String, StartError> {
    if let Some(secret) = &config.http.secret {
        return Ok(secret.clone());
    }
    let (secret, made) = secret::kept(state.path()).map_err(StartError::Storage)?;
    if made {
        tracing::warn!(
            "No HTTP secret provided - generated random secret. This may cause problems with uploads if multiple registries are behind a load-balancer. To provide a shared secret, fill in http.secret in the configuration file or set the REGISTRY_HTTP_SECRET environment variable."
        );
    }
    Ok(secret)
}

fn forward_of(config: &Config) -> Result<Option<Forward>, StartError> {
    let Some(forward) = config.forward() else {
        return Ok(None);
    };
    let is_encrypted = config.http.tls.is_some();
    let forward = Forward::new(forward.target.clone(), forward.authority.as_deref(), is_encrypted)?;
    Ok(Some(forward))
}

fn tls_of(config: &Config) -> Result<Option<tls::Tls>, StartError> {
    let Some(pair) = &config.http.tls else {
        return Ok(None);
    };
    let settings = tls::Settings {
        certificate: pair.certificate.clone(),
        key: pair.key.clone(),
        minimum: pair.minimum,
        client_cas: pair.client_cas.clone(),
        client_optional: pair.client_optional,
        http2: config.http.http2,
    };
    tls::Tls::new(settings).map(Some).map_err(StartError::Tls)
}
