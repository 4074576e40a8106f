//! Whether what runs elsewhere, and this root uses, is there and knows of this root.

use reqwest::StatusCode;
use reqwest::header::WWW_AUTHENTICATE;

use super::finding::{Finding, Verdict};
use super::logins;
use super::scene::Scene;
use crate::config::Config;
use crate::rails::config::RegistryConfig;
use crate::rails::jwt_auth::TokenService;

/// What a root's registry calls itself in challenges, and KhulnaSoft in tokens.
const SERVICE: &str = "container_registry";

/// Looks at a registry and a KhulnaSoft that kdk does not run.
pub fn check(scene: &Scene) -> Verdict {
    let config = match scene.config() {
        Ok(config) => config,
        Err(verdict) => return verdict,
    };
    let rails_elsewhere = !config.runs_rails() && config.registry_enabled();
    if !config.registry_is_elsewhere() && !rails_elsewhere {
        return Verdict::Skipped("kdk runs all that this root uses".to_owned());
    }
    let registry = config.registry_is_elsewhere().then(|| registry(config)).flatten();
    let rails = rails_elsewhere.then(|| rails(config)).flatten();
    registry.into_iter().chain(rails).collect::<Vec<_>>().into()
}

/// Says what is wrong with a registry that runs elsewhere: where KhulnaSoft
/// reaches it, or where users do.
pub fn registry(config: &Config) -> Option<Finding> {
    let (inside, outside) = (config.registry_api_url(), config.registry_url());
    let inside = inside.trim_end_matches('/');
    looked(config, inside).or_else(|| {
        let is_other = outside != inside;
        is_other.then(|| looked(config, &outside)).flatten()
    })
}

fn looked(config: &Config, url: &str) -> Option<Finding> {
    let by_hand = "start it there, or correct registry.api_url, or registry.host with registry.port by which users reach it; then: kdk reconfigure";
    let answer = match logins::get_far(&format!("{url}/v2/")) {
        Ok(answer) => answer,
        Err(error) => {
            let cause = logins::cause_of(&error);
            let evidence = format!("the registry at {url} does not answer: {cause}");
            return Some(Finding::problem("registry-elsewhere-silent", evidence).by_hand(by_hand));
        }
    };
    let asks = config.registry_auth_enabled();
    match answer.status() {
        StatusCode::OK if !asks => None,
        StatusCode::OK => Some(
            Finding::warning(
                "registry-elsewhere-open",
                format!("the registry at {url} asks for no login: anybody who reaches it may push and delete"),
            )
            .suggest(&["setup", "external-registry"]),
        ),
        StatusCode::UNAUTHORIZED => {
            let header = answer
                .headers()
                .get(WWW_AUTHENTICATE)
                .and_then(|value| value.to_str().ok());
            sent_elsewhere(config, url, header.unwrap_or_default()).or_else(|| distrusts(config, url))
        }
        status => Some(
            Finding::problem(
                "registry-elsewhere-odd",
                format!("{url}/v2/ is answered {status}, as no registry does that is in order"),
            )
            .by_hand(by_hand),
        ),
    }
}

/// Says so when clients are sent to somebody else for tokens.
fn sent_elsewhere(config: &Config, url: &str, challenge: &str) -> Option<Finding> {
    let field = |name: &str| {
        let (_, rest) = challenge.split_once(&format!("{name}=\""))?;
        rest.split('"').next()
    };
    let wanted = config.registry_token_realm();
    let (realm, service) = (
        field("realm").unwrap_or("nowhere"),
        field("service").unwrap_or_default(),
    );
    let evidence = if realm != wanted {
        format!("the registry at {url} sends clients for tokens to {realm}, not to {wanted}")
    } else if service != SERVICE {
        format!("the registry at {url} asks for tokens of the service {service:?}, not of {SERVICE}")
    } else {
        return None;
    };
    Some(
        Finding::problem("registry-elsewhere-realm", evidence)
            .why("nobody can log in with this root's tokens: its configuration must name this root")
            .suggest(&["setup", "external-registry"]),
    )
}

/// Returns what tokens of this root are signed with.
pub fn signing(config: &Config) -> RegistryConfig {
    RegistryConfig {
        address: config.registry_address(),
        api_url: config.registry_api_url(),
        certificate: None,
        key: config.path(&config.registry_key()),
        certificates: Some(config.path(&config.registry_rootcertbundle())),
        issuer: config.registry_issuer(),
        notification_secret: None,
        token_expire_delay: config.registry_token_expire_delay(),
    }
}

/// Says so when a registry takes no token of this root's: it is asked with one
/// that grants nothing.
fn distrusts(config: &Config, url: &str) -> Option<Finding> {
    let signing = signing(config);
    let token = TokenService::new(&signing).ok()?.token("kdk-doctor", Vec::new()).ok()?;
    let status = logins::get_with(&format!("{url}/v2/"), &token).ok()?.status();
    (status == StatusCode::UNAUTHORIZED).then(|| {
        Finding::problem(
            "registry-elsewhere-untrusted",
            format!(
                "the registry at {url} takes no token that is signed with {}",
                signing.key
            ),
        )
        .why("nobody can log in: its rootcertbundle is not this root's, its issuer is another, or its clock is wrong")
        .by_hand(format!(
            "copy {} there, as its rootcertbundle, and compare the rest with: kdk setup external-registry",
            config.path(&config.registry_rootcertbundle())
        ))
    })
}

/// Says what is wrong with a KhulnaSoft that runs elsewhere.
pub fn rails(config: &Config) -> Option<Finding> {
    let url = config.rails_url();
    let url = url.trim_end_matches('/');
    let what = match logins::get_far(&format!("{url}/jwt/auth?service={SERVICE}")) {
        Ok(answer) if logins::is_token_service(answer.status()) => return None,
        Ok(answer) => format!("answers {} where tokens are asked for", answer.status()),
        Err(error) => format!("does not answer: {}", logins::cause_of(&error)),
    };
    Some(
        Finding::problem("rails-elsewhere-silent", format!("the KhulnaSoft at {url} {what}"))
            .why("nobody can log in")
            .by_hand("start it there, or correct the URL: kdk config set rails.url URL && kdk reconfigure"),
    )
}
