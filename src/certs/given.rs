//! A pair that somebody brings: what is wrong with it is said before anything
//! is put anywhere.

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::facts::{Facts, covers, is_signed, public_key};

/// A pair that was looked at.
#[derive(Debug)]
pub struct Given {
    /// The certificate, and those that lead from it to an authority, as PEM.
    pub chain: String,
    /// Its key, as PEM.
    pub key: String,
    /// Names that it lacks.
    pub missing: Vec<String>,
}

/// Reads a pair: two PEM texts, or one that holds both. `name` is what it must
/// hold for; `others` are names that it had better hold for, too.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn look(
    certificate: &str,
    key: Option<&str>,
    name: &str,
    others: &[String],
    now: Timestamp,
) -> Result<Given, String> {
    let chain = blocks(certificate, |label| label == "CERTIFICATE");
    if chain.is_empty() {
        return Err("there is no certificate in it (-----BEGIN CERTIFICATE-----)".to_owned());
    }
    let source = key.unwrap_or(certificate);
    if source.contains("BEGIN ENCRYPTED PRIVATE KEY") || source.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(
            "its key is encrypted, and servers have nobody to ask; decrypt it with: openssl pkey -in KEY -out PLAIN"
                .to_owned(),
        );
    }
    let keys = blocks(source, |label| label.ends_with("PRIVATE KEY"));
    let Some(key) = keys.first() else {
        return Err(if key.is_some() {
            "there is no private key in the second file".to_owned()
        } else {
            "there is no private key in it; name the file that holds it after the certificate".to_owned()
        });
    };
    let facts = check(&chain, key, now)?;
    if !covers(&facts.names, name) {
        return Err(format!(
            "it does not hold for {name}, but for {}",
            if facts.names.is_empty() {
                "no name at all".to_owned()
            } else {
                facts.names.join(", ")
            }
        ));
    }
    let missing = others
        .iter()
        .filter(|other| !covers(&facts.names, other))
        .cloned()
        .collect();
    Ok(Given {
        chain: chain.concat(),
        key: key.clone(),
        missing,
    })
}

/// Checks that a key goes with a chain, each certificate of it was signed by
/// the next, and all of them hold; returns what the first says.
fn check(chain: &[String], key: &str, now: Timestamp) -> Result<Facts, String> {
    let ders: Vec<CertificateDer<'_>> = chain
        .iter()
        .map(|pem| {
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| "a certificate in it is no PEM".to_owned())
        })
        .collect::<Result<_, _>>()?;
    let facts = Facts::of_der(&ders[0]).ok_or("its first certificate cannot be read")?;
    if public_key(key).as_deref() != Some(facts.public_key.as_slice()) {
        return Err("the key does not go with the first certificate: a chain begins with the server's own".to_owned());
    }
    for (number, pair) in ders.windows(2).enumerate() {
        if !is_signed(&pair[0], &pair[1]) {
            return Err(format!(
                "the chain is broken: certificate {} was not signed by certificate {}",
                number + 1,
                number + 2
            ));
        }
    }
    for (number, der) in ders.iter().enumerate() {
        let facts = Facts::of_der(der).ok_or_else(|| format!("certificate {} of it cannot be read", number + 1))?;
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap_or_default();
        if at(facts.not_after) < now {
            return Err(format!(
                "certificate {} of it expired on {}",
                number + 1,
                at(facts.not_after).strftime("%Y-%m-%d")
            ));
        }
        if at(facts.not_before) > now {
            return Err(format!(
                "certificate {} of it does not hold before {} (is the clock right?)",
                number + 1,
                at(facts.not_before)
            ));
        }
    }
    Ok(facts)
}

/// Returns the PEM blocks of a kind, each with its lines.
fn blocks(text: &str, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
    let mut all = Vec::new();
    let mut block: Option<(String, String)> = None;
    for line in text.lines() {
        let line = line.trim_end();
        if let Some(label) = line
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"))
        {
            block = Some((label.to_owned(), String::new()));
        }
        if let Some((label, lines)) = &mut block {
            lines.push_str(line);
            lines.push('\n');
            if line == format!("-----END {label}-----") {
                if is_meant(label) {
                    all.push(std::mem::take(lines));
                }
                block = None;
            }
        }
    }
    all
}
