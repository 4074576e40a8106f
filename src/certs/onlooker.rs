//! What certificate a server shows.

use std::io;

use data_encoding::HEXLOWER;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

/// How long a server may take for each step.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Connects to the first address that answers.
fn connect(address: &str) -> io::Result<std::net::TcpStream> {
    use std::net::ToSocketAddrs as _;
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"));
    for address in address.to_socket_addrs()? {
        match std::net::TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Returns the SHA-256 fingerprint of the certificate that a TLS server shows.
///
/// # Errors
/// When there is no TLS server.
pub fn served_fingerprint(address: &str, name: &str) -> io::Result<String> {
    served(address, name).map(|der| HEXLOWER.encode(&Sha256::digest(&der)))
}

/// Returns the certificate that a TLS server shows (DER).
///
/// # Errors
/// When there is no TLS server.
pub fn served(address: &str, name: &str) -> io::Result<Vec<u8>> {
    use std::io::Write as _;
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let seen = std::sync::Arc::new(Onlooker::default());
    let config = rustls::ClientConfig::builder_with_provider(std::sync::Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    let mut connection = rustls::ClientConnection::new(std::sync::Arc::new(config), name).map_err(io::Error::other)?;
    let mut socket = connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    // Nothing is sent but the handshake.
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    let _ = stream.flush();
    let der = seen
        .certificate
        .lock()
        .map_err(|_| io::Error::other("poisoned"))?
        .clone();
    der.ok_or_else(|| io::Error::other("no certificate was shown"))
}

/// Accepts every certificate and remembers it: nothing is sent after the handshake.
#[derive(Debug, Default)]
struct Onlooker {
    certificate: std::sync::Mutex<Option<Vec<u8>>>,
}

impl rustls::client::danger::ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        if let Ok(mut seen) = self.certificate.lock() {
            *seen = Some(end_entity.to_vec());
        }
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
