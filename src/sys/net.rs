//! Sockets: name resolution, who holds a port.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs as _};

/// A process that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: i32,
    /// Its name.
    pub name: String,
}

/// Resolves a host name by the system's means (hosts file, then DNS).
///
/// # Errors
/// When the name has no address.
pub fn resolve(host: &str) -> io::Result<Vec<IpAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse() {
        return Ok(vec![address]);
    }
    let found: Vec<IpAddr> = (bare, 0).to_socket_addrs()?.map(|socket| socket.ip()).collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

/// Says whether a host is this machine's loopback, judged by its text alone.
pub fn is_loopback_literal(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Tries to listen on an address and lets go of it at once.
///
/// # Errors
/// `AddrInUse`, `AddrNotAvailable`, `PermissionDenied` as the system says.
pub fn try_listen(address: SocketAddr) -> io::Result<()> {
    TcpListener::bind(address).map(|_| ())
}

/// Writes host and port as one, with brackets around an IPv6 address.
pub fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

/// Finds the process that listens on a TCP port, as far as this user may see.
pub fn port_holder(port: u16) -> Option<Holder> {
    platform::port_holder(port)
}

#[cfg(target_os = "linux")]
mod platform {
    use super::Holder;

    pub(super) fn port_holder(port: u16) -> Option<Holder> {
        let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .flat_map(|table| listening_inodes(&table, port))
            .collect();
        for entry in std::fs::read_dir("/proc").ok()?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            let Ok(descriptors) = std::fs::read_dir(entry.path().join("fd")) else {
                continue;
            };
            for descriptor in descriptors.flatten() {
                let Ok(target) = std::fs::read_link(descriptor.path()) else {
                    continue;
                };
                let target = target.to_string_lossy();
                let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
                if inode.is_some_and(|inode| inodes.iter().any(|known| known == inode)) {
                    let name = crate::sys::process::name_of(pid).unwrap_or_default();
                    return Some(Holder { pid, name });
                }
            }
        }
        None
    }

    fn listening_inodes(table: &str, port: u16) -> Vec<String> {
        const LISTEN: &str = "0A";
        table
            .lines()
            .skip(1)
            .filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let (_, hex) = fields.get(1)?.rsplit_once(':')?;
                let matches = u16::from_str_radix(hex, 16).ok()? == port && *fields.get(3)? == LISTEN;
                matches.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
            })
            .collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use super::Holder;

    pub(super) fn port_holder(port: u16) -> Option<Holder> {
        let output = std::process::Command::new("lsof")
            .args(["-nP", &format!("-iTCP:{port}"), "-sTCP:LISTEN", "-Fpc"])
            .output()
            .ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let pid = text.lines().find_map(|line| line.strip_prefix('p'))?.parse().ok()?;
        let name = text
            .lines()
            .find_map(|line| line.strip_prefix('c'))
            .unwrap_or_default()
            .to_owned();
        Some(Holder { pid, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let holder = port_holder(port).expect("found");
        assert_eq!(holder.pid, i32::try_from(std::process::id()).expect("small"));
        assert_eq!(
            try_listen(([127, 0, 0, 1], port).into()).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }
}
