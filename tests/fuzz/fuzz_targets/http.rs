//! Whatever comes over a connection, to the real server: HTTP/1.1, and HTTP/2
//! where the first byte is odd.

#![no_main]

mod bounds;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::LazyLock;
use std::time::Duration;

use kdk::registry::config::Source;
use libfuzzer_sys::fuzz_target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

static SERVER: LazyLock<SocketAddr> = LazyLock::new(|| {
    let address = TcpListener::bind("127.0.0.1:0")
        .and_then(|free| free.local_addr())
        .expect("an address");
    let path = std::env::temp_dir().join(format!("kdk-fuzz-{}.yml", std::process::id()));
    let text = format!(
        "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  inmemory: {{}}\n  delete:\n    enabled: true\nhttp:\n  addr: {address}\n  secret: x\n  h2c:\n    enabled: true\n"
    );
    std::fs::write(&path, text).expect("written");
    let source = Source {
        path: path.try_into().expect("UTF-8"),
        environment: Vec::new(),
    };
    std::thread::spawn(move || kdk::registry::server::serve(&source).expect("served"));
    while TcpStream::connect(address).is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    // The server tells of a panic and goes on; here none may be.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::abort();
    }));
    address
});

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let mut stream = TcpStream::connect(*SERVER).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let preface = if kind % 2 == 1 { PREFACE } else { b"" };
    // It may have been refused before it was all sent.
    let sent = stream.write_all(preface).and_then(|()| stream.write_all(rest));
    let _ = sent.and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        let is_late = matches!(
            error.kind(),
            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
        );
        assert!(!is_late, "it hangs after {} bytes", answer.len());
    }
    if answer.starts_with(b"HTTP/1.1 ") {
        assert!(!answer.starts_with(b"HTTP/1.1 500"), "{}", String::from_utf8_lossy(&answer));
    }
});
