//! Looking at what lies outside of the registry.

use reqwest::Client;

use crate::registry::config::Probe;

/// Makes what asks a server that is to be looked at.
///
/// # Errors
/// When it cannot be made.
pub fn client(probe: &Probe) -> reqwest::Result<Client> {
    let builder = Client::builder().user_agent(concat!("kdk-registry-health/", env!("CARGO_PKG_VERSION")));
    let is_local = matches!(probe, Probe::Http { uri, .. } if url::Url::parse(uri)
        .is_ok_and(|url| url.host_str().is_some_and(crate::sys::net::is_loopback_literal)));
    // A proxy is no way to this machine itself.
    let builder = if is_local { builder.no_proxy() } else { builder };
    builder.build()
}

/// Looks at a file, an address or a server.
///
/// # Errors
/// With what is wrong.
pub async fn probe(probe: &Probe, client: &Client) -> Result<(), String> {
    match probe {
        // Those are the server's own.
        Probe::Storage | Probe::Database => Ok(()),
        // Its presence is the signal, as in distribution.
        Probe::File(path) => {
            let path = path.clone();
            let looking = crate::sys::task::blocking(move || path.exists().then(|| format!("{path} exists")));
            looking.await.ok().flatten().map_or(Ok(()), Err)
        }
        Probe::Http {
            uri,
            headers,
            status,
            timeout,
        } => {
            let mut request = client.head(uri).timeout(*timeout);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let answer = request.send().await.map_err(|error| error.to_string())?;
            if answer.status().as_u16() == *status {
                Ok(())
            } else {
                Err(format!("{uri} answers {} instead of {status}", answer.status()))
            }
        }
        Probe::Tcp { address, timeout } => {
            let connecting = crate::sys::task::timeout(*timeout, tokio::net::TcpStream::connect(address));
            match connecting.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("does not answer".to_owned()),
            }
        }
    }
}
