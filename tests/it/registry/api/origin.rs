//! The token service on the registry's own address: challenges that lead
//! there, and requests that are sent on.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use crate::registry::settings::{certificate, client};
use crate::support::registry::{TestRegistry, header};
use crate::support::{KDK, Output, port, temporary};

/// Stands for a token service: answers every request with the same text, and
/// tells what came.
fn token_service(answer: &str) -> (u16, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = listener.local_addr().expect("an address").port();
    let (sender, requests) = mpsc::channel();
    let answer = answer.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, sender) = (answer.clone(), sender.clone());
            std::thread::spawn(move || drop(sender.send(serve(stream, &answer))));
        }
    });
    (port, requests)
}

fn serve(mut stream: TcpStream, answer: &str) -> (String, String) {
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    let request = loop {
        let read = stream.read(&mut piece).unwrap_or_default();
        text.extend_from_slice(&piece[..read]);
        let all = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = all.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
            if read == 0 || length.unwrap_or(0) <= body.len() {
                break (head.to_owned(), body.to_owned());
            }
        }
        if read == 0 {
            break Default::default();
        }
    };
    let _ = stream.write_all(answer.as_bytes());
    request
}

fn ok(headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// Configuration of a registry whose requests for tokens go to a port.
fn forwarding(directory: &tempfile::TempDir, target: &str) -> String {
    let (crt, ..) = certificate(directory.path(), "tokens");
    format!(
        "auth:\n  token:\n    realm: http://rendered.test:5000/jwt/auth\n    service: container_registry\n    issuer: khulnasoft-issuer\n    rootcertbundle: {crt}\n    forward: {target}\n"
    )
}

fn registry(port: u16, http: &str, more: &str) -> TestRegistry {
    let directory = temporary();
    let auth = forwarding(&directory, &format!("http://127.0.0.1:{port}/jwt/auth"));
    TestRegistry::with(directory, &format!("{http}{auth}{more}"), &[])
}

/// Sends a request as it is written; returns the answer's head, in lower case.
fn raw(registry: &TestRegistry, request: &str) -> String {
    let mut stream = TcpStream::connect(&registry.address).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.split("\r\n\r\n").next().unwrap_or_default().to_lowercase()
}

/// Returns the realm to which a request with these headers is sent.
fn realm(registry: &TestRegistry, headers: &str) -> String {
    let head = raw(
        registry,
        &format!("GET /v2/ HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"),
    );
    assert!(head.starts_with("http/1.1 401 "), "{head}");
    assert!(head.contains("cache-control: no-store"), "{head}");
    let (_, rest) = head.split_once("bearer realm=\"").unwrap_or_else(|| panic!("{head}"));
    rest.split('"').next().expect("a realm").to_owned()
}

const RENDERED: &str = "http://rendered.test:5000/jwt/auth";

#[test]
fn a_client_is_sent_to_the_address_by_which_it_came() {
    let registry_of = |http: &str| registry(1, http, "");
    let plain = registry_of("");
    for (headers, expected) in [
        ("Host: kdk.test:5000\r\n", "http://kdk.test:5000/jwt/auth"),
        ("Host: 127.0.0.1:23000\r\n", "http://127.0.0.1:23000/jwt/auth"),
        ("Host: [::1]:5000\r\n", "http://[::1]:5000/jwt/auth"),
        // A proxy on this machine is believed.
        ("Host: a:1\r\nX-Forwarded-Proto: https\r\n", "https://a:1/jwt/auth"),
        (
            "Host: a:1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: registry.test\r\n",
            "https://registry.test/jwt/auth",
        ),
        // The standard's own header is believed, too.
        (
            "Host: a:1\r\nForwarded: for=192.0.2.1;proto=https;host=\"registry.test\"\r\n",
            "https://registry.test/jwt/auth",
        ),
        // What is no host counts for nothing.
        ("Host: a\r\nX-Forwarded-Host: evil.test\\\r\n", RENDERED),
    ] {
        assert_eq!(realm(&plain, headers), expected, "{headers:?}");
    }
    // A request names one host (RFC 9112, section 3.2), or is none.
    for headers in [
        "",
        "Host: evil.test\", service=\"x\r\n",
        "Host: user@evil.test\r\n",
        "Host: evil.test/path\r\n",
        "Host: a:99999\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: a\r\nHost: a\r\n",
    ] {
        let head = raw(
            &plain,
            &format!("GET /v2/ HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"),
        );
        assert!(head.starts_with("http/1.1 400 "), "{headers:?}: {head}");
    }
    let absolute = raw(&plain, "GET http://a:1/v2/ HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(absolute.starts_with("http/1.1 400 "), "{absolute}");
    let old = raw(&plain, "GET /v2/ HTTP/1.0\r\n\r\n");
    assert!(old.contains(&format!("realm=\"{RENDERED}\"")), "{old}");
    // Paths alone are for Locations.
    let relative = registry_of("  relativeurls: true\n");
    assert_eq!(realm(&relative, "Host: a:1\r\n"), "http://a:1/jwt/auth");
    let external = registry_of("  host: https://registry.example.com/\n");
    assert_eq!(
        realm(&external, "Host: a:1\r\nX-Forwarded-Host: evil.test\r\n"),
        "https://registry.example.com/jwt/auth"
    );
    let far = registry_of("  trustedproxies: [198.51.100.0/24]\n");
    assert_eq!(
        realm(
            &far,
            "Host: a:1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n"
        ),
        "http://a:1/jwt/auth"
    );
    let below = registry_of("  prefix: /registry/\n");
    let head = raw(
        &below,
        "GET /registry/v2/ HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n",
    );
    assert!(head.contains("realm=\"http://a:1/registry/jwt/auth\""), "{head}");
}

#[test]
fn an_encrypted_client_is_never_sent_to_a_plain_address() {
    let directory = temporary();
    let (crt, key, ca) = certificate(directory.path(), "server");
    let auth = forwarding(&directory, "http://127.0.0.1:1/jwt/auth");
    let registry = TestRegistry::with(
        directory,
        &format!("  tls:\n    certificate: {crt}\n    key: {key}\n{auth}"),
        &[],
    );
    let url = format!("https://{}/v2/", registry.address);
    for proto in [None, Some("http")] {
        let mut request = client(&ca, None).get(&url);
        if let Some(proto) = proto {
            request = request.header("x-forwarded-proto", proto);
        }
        let answer = request.send().expect("answered");
        let expected = format!("Bearer realm=\"https://{}/jwt/auth\"", registry.address);
        let challenge = header(&answer, "www-authenticate");
        assert!(challenge.starts_with(&expected), "{challenge}");
    }
}

#[test]
fn without_a_token_service_to_ask_all_is_as_before() {
    let directory = temporary();
    let auth = forwarding(&directory, "x");
    let auth: String = auth
        .lines()
        .filter(|line| !line.contains("forward"))
        .map(|line| format!("{line}\n"))
        .collect();
    let registry = TestRegistry::with(directory, &auth, &[]);
    let head = raw(
        &registry,
        "GET /v2/ HTTP/1.1\r\nHost: kdk.test:5000\r\nConnection: close\r\n\r\n",
    );
    assert!(
        head.contains(&format!("realm=\"{RENDERED}\"")) && !head.contains("no-store"),
        "{head}"
    );
    assert_eq!(registry.get("/jwt/auth?service=container_registry").status(), 404);
}

#[test]
fn of_a_request_only_what_is_needed_goes_along() {
    let (service, requests) = token_service(&ok(
        "Content-Type: application/json\r\nCache-Control: no-store\r\nSet-Cookie: a=b\r\nX-Secret: y\r\n",
        r#"{"token":"t"}"#,
    ));
    let registry = registry(service, "", "");
    let answer = registry
        .request("GET", "/jwt/auth?service=container_registry&scope=repository:a:pull")
        .header("authorization", "Basic YTpi")
        .header("user-agent", "docker/1")
        .header("cookie", "session=1")
        .header("x-forwarded-for", "203.0.113.9, 192.0.2.4")
        .header("x-forwarded-host", "evil.test")
        .header("forwarded", "for=203.0.113.9")
        .header("x-other", "z")
        .send()
        .expect("answered");
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "cache-control"), "no-store");
    for name in ["set-cookie", "x-secret"] {
        assert!(!answer.headers().contains_key(name), "{name} came back");
    }
    assert_eq!(answer.text().expect("read"), r#"{"token":"t"}"#);
    let (head, _) = requests.recv_timeout(Duration::from_secs(10)).expect("it came");
    let mut lines = head.lines();
    assert_eq!(
        lines.next(),
        Some("GET /jwt/auth?service=container_registry&scope=repository:a:pull HTTP/1.1")
    );
    let mut headers: Vec<String> = lines
        .map(str::to_lowercase)
        .map(|line| {
            if line.starts_with("via: 1.1 kdk-") {
                "via: own".to_owned()
            } else {
                line
            }
        })
        .collect();
    headers.sort();
    assert_eq!(
        headers,
        [
            "accept: */*",
            "authorization: basic ytpi",
            &format!("host: 127.0.0.1:{service}"),
            "user-agent: docker/1",
            "via: own",
            // The last client that is no proxy on this machine.
            "x-forwarded-for: 192.0.2.4",
        ]
    );
    // A form goes along with its type; nothing of either is logged.
    let form = "grant_type=password&password=hush";
    let posted = registry
        .request("POST", "/jwt/auth?secret=query")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .expect("answered");
    assert_eq!(posted.status(), 200);
    let (head, body) = requests.recv_timeout(Duration::from_secs(10)).expect("it came");
    assert!(
        head.to_lowercase()
            .contains("content-type: application/x-www-form-urlencoded"),
        "{head}"
    );
    assert_eq!(body, form);
    let line = registry.wait_for_line(|line| (line["method"] == "POST").then(|| line.to_string()));
    assert!(
        line.contains(r#""uri":"/jwt/auth""#) && !line.contains("secret") && !line.contains("hush"),
        "{line}"
    );
}

#[test]
fn what_a_token_service_must_not_answer_is_not_passed_back() {
    let large = "x".repeat((1 << 20) + 1);
    for answer in [
        "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: http://127.0.0.1/other\r\nContent-Length: 0\r\n\r\n"
            .to_owned(),
        ok("", &large),
        "nonsense\r\n\r\n".to_owned(),
    ] {
        let (service, _requests) = token_service(&answer);
        let registry = registry(service, "", "");
        let got = registry.get("/jwt/auth?service=container_registry");
        assert_eq!(got.status(), 503);
        assert!(!got.headers().contains_key("location"));
        assert_eq!(header(&got, "retry-after"), "10");
    }
    // Rails has no form; clients then ask as before.
    for status in ["404 Not Found", "405 Method Not Allowed"] {
        let (service, _requests) = token_service(&format!(
            "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        ));
        let registry = registry(service, "", "");
        let got = registry
            .request("POST", "/jwt/auth")
            .body("a=b")
            .send()
            .expect("answered");
        assert!(status.starts_with(got.status().as_str()), "{got:?}");
    }
}

#[test]
fn requests_for_tokens_are_bounded_and_answered_in_every_state() {
    let (service, _requests) = token_service(&ok("", "{}"));
    let flag = temporary();
    let flag = flag.path().join("down");
    std::fs::write(&flag, "").expect("written");
    let down = format!(
        "health:\n  file:\n    - file: {}\n      interval: 10ms\n",
        flag.display()
    );
    let registry = registry(service, "", &down);
    crate::support::wait("it is unwell", || (registry.get("/v2/").status() == 503).then_some(()));
    let ask = |method: &str, body: Vec<u8>| {
        registry
            .request(method, "/jwt/auth")
            .body(body)
            .send()
            .expect("answered")
            .status()
            .as_u16()
    };
    assert_eq!(ask("GET", Vec::new()), 200);
    assert_eq!(ask("POST", vec![b'x'; 64 << 10]), 200);
    assert_eq!(ask("POST", vec![b'x'; (64 << 10) + 1]), 413);
    for method in ["PUT", "DELETE", "PATCH", "HEAD"] {
        assert_eq!(ask(method, Vec::new()), 405, "{method}");
    }
    let read_only = temporary();
    let auth = forwarding(&read_only, &format!("http://127.0.0.1:{service}/jwt/auth"));
    let registry = TestRegistry::with(
        read_only,
        &auth,
        &[("REGISTRY_STORAGE_MAINTENANCE_READONLY_ENABLED", "true")],
    );
    let posted = registry
        .request("POST", "/jwt/auth")
        .body("a=b")
        .send()
        .expect("answered");
    assert_eq!(posted.status(), 200);
}

#[test]
fn a_token_service_that_is_away_is_named_in_the_log() {
    let nobody = port();
    let registry = registry(nobody, "", "");
    let got = registry.get("/jwt/auth?service=container_registry&account=anna");
    assert_eq!(got.status(), 503);
    assert!(
        !got.text().expect("read").contains(&nobody.to_string()),
        "the cause went to the client"
    );
    let line = registry.wait_for_line(|line| {
        let told = line["msg"].as_str()?.starts_with("the token service does not answer");
        told.then(|| line.to_string())
    });
    assert!(
        line.contains(&format!("http://127.0.0.1:{nobody}/jwt/auth")) && line.contains("refused"),
        "{line}"
    );
    assert!(!line.contains("anna"), "{line}");
}

#[test]
fn a_slow_token_service_is_not_waited_for_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let silent = listener.local_addr().expect("an address").port();
    let registry = registry(silent, "", "");
    let began = std::time::Instant::now();
    assert_eq!(registry.get("/jwt/auth").status(), 503);
    let took = began.elapsed().as_secs();
    assert!((9..20).contains(&took), "{took} s");
    drop(listener);
}

#[test]
fn a_registry_does_not_ask_itself_for_tokens() {
    let own = port();
    let serve = |addr: &str, target: &str, tls: bool| {
        let directory = temporary();
        let config = directory.path().join("config.yml");
        let (crt, key, _) = certificate(directory.path(), "server");
        let tls = if tls {
            format!("  tls:\n    certificate: {crt}\n    key: {key}\n")
        } else {
            String::new()
        };
        let text = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {addr}\n{tls}{}",
            directory.path().join("storage").display(),
            forwarding(&directory, target)
        );
        std::fs::write(&config, text).expect("written");
        let mut command = Command::new("timeout");
        command.args(["20", KDK, "registry", "serve"]).arg(&config).env_clear();
        Output::of(&mut command).fails(1)
    };
    for addr in [format!("127.0.0.1:{own}"), format!("0.0.0.0:{own}"), format!(":{own}")] {
        for host in ["127.0.0.1", "localhost"] {
            let refused = serve(&addr, &format!("http://{host}:{own}/jwt/auth"), false);
            assert!(refused.contains("is this server itself"), "{addr} {host}: {refused}");
        }
    }
    // Encrypted requests do not go on in plain text to another machine.
    let refused = serve("127.0.0.1:0", "http://198.51.100.77:3000/jwt/auth", true);
    assert!(refused.contains("plain HTTP to another machine"), "{refused}");
    for odd in [
        "3000",
        "ftp://127.0.0.1/",
        "http://a:b@127.0.0.1/",
        "http://127.0.0.1/?a=b",
    ] {
        let refused = serve("127.0.0.1:0", &format!("'{odd}'"), false);
        assert!(refused.contains("auth.token.forward"), "{odd}: {refused}");
    }
}

#[test]
fn two_registries_do_not_ask_each_other_in_circles() {
    let ports = [port(), port()];
    let start = |at: usize| {
        let directory = temporary();
        let auth = forwarding(&directory, &format!("http://127.0.0.1:{}/jwt/auth", ports[1 - at]));
        let addr = format!("127.0.0.1:{}", ports[at]);
        TestRegistry::with(directory, &auth, &[("REGISTRY_HTTP_ADDR", &addr)])
    };
    let (one, _two) = (start(0), start(1));
    assert_eq!(one.get("/jwt/auth?service=container_registry").status(), 508);
}
