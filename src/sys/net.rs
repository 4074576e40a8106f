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

/// Says whether an address is one of this machine's.
pub fn is_own(address: IpAddr) -> bool {
    // Any port will do; what else may go wrong says nothing of the address.
    !try_listen(SocketAddr::new(address, 0)).is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Returns the address of a host that somebody is to listen on.
///
/// # Errors
/// Why nobody can: its name has none, or this machine does not have it.
pub fn own_address(host: &str) -> Result<IpAddr, String> {
    let addresses = resolve(host).map_err(|_| format!("the host name {host} does not resolve"))?;
    match addresses.first() {
        Some(address) if is_own(*address) => Ok(*address),
        _ => Err(format!("{host} is no address of this machine")),
    }
}

/// Says whether only this machine has an address: it is loopback's, or one
/// that its interface was given.
pub fn is_on_loopback(address: IpAddr) -> bool {
    let has = |interface: nix::ifaddrs::InterfaceAddress| {
        let is_loopback = interface.flags.contains(nix::net::if_::InterfaceFlags::IFF_LOOPBACK);
        let socket = interface.address.filter(|_| is_loopback)?;
        let v4 = socket.as_sockaddr_in().map(|socket| IpAddr::V4(socket.ip()));
        v4.or_else(|| socket.as_sockaddr_in6().map(|socket| IpAddr::V6(socket.ip())))
    };
    address.is_loopback()
        || nix::ifaddrs::getifaddrs().is_ok_and(|mut all| all.any(|interface| has(interface) == Some(address)))
}

/// Whether containers can have this machine's own network: elsewhere they run
/// in a machine of the engine's.
pub const CONTAINERS_SHARE_NETWORK: bool = cfg!(target_os = "linux");

/// Returns the command that gives the loopback interface an address.
pub fn alias_command(address: IpAddr) -> String {
    if cfg!(target_os = "linux") {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        format!("sudo ip addr add {address}/{bits} dev lo")
    } else {
        let family = if address.is_ipv4() { "" } else { "inet6 " };
        format!("sudo ifconfig lo0 {family}alias {address}")
    }
}

/// Writes host and port as one, with brackets around an IPv6 address.
pub fn host_port(host: &str, port: u16) -> String {
    if host.contains(':') && !host.starts_with('[') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

impl Holder {
    /// Says whether it works in a directory that was removed, and stood at this
    /// path; where the system tells, which is on Linux.
    pub fn is_in_removed(&self, directory: &camino::Utf8Path) -> bool {
        // What Linux appends to the path of what is gone.
        let removed = format!("{directory} (deleted)");
        super::process::started_with(self.pid).is_some_and(|started| started.cwd == removed)
    }
}

/// Says whether the other side of a connection has closed it. What it sent
/// before that may still be read.
pub fn has_hung_up(stream: &std::os::unix::net::UnixStream) -> bool {
    use nix::sys::socket::{MsgFlags, recv};
    use std::os::fd::AsRawFd as _;
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    recv(stream.as_raw_fd(), &mut [0], flags) == Ok(0)
}

/// Finds the process that listens on a TCP port, as far as this user may see.
pub fn port_holder(port: u16) -> Option<Holder> {
    platform::port_holder(port)
}

/// Who takes connections to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taker {
    /// Nobody.
    Nobody,
    /// A process that this user may not look into.
    Hidden,
    /// This one.
    Process(Holder),
}

/// Finds out who takes connections to an address.
pub fn taker(address: IpAddr, port: u16) -> Taker {
    platform::taker(address, port)
}

#[cfg(target_os = "linux")]
mod platform {
    use std::net::IpAddr;

    use super::{Holder, Taker};

    pub(super) fn port_holder(port: u16) -> Option<Holder> {
        holder_of(&listening(port))
    }

    pub(super) fn taker(address: IpAddr, port: u16) -> Taker {
        let all = listening(port);
        // The kernel prefers a socket on the very address to one on all of them.
        let some = |wanted: &dyn Fn(IpAddr) -> bool| -> Vec<(IpAddr, String)> {
            all.iter().filter(|(at, _)| wanted(*at)).cloned().collect()
        };
        let exact = some(&|at| at == address.to_canonical());
        let sockets = if exact.is_empty() {
            some(&|at| at.is_unspecified())
        } else {
            exact
        };
        match holder_of(&sockets) {
            _ if sockets.is_empty() => Taker::Nobody,
            Some(holder) => Taker::Process(holder),
            None => Taker::Hidden,
        }
    }

    /// Returns the sockets that listen on a port: address and inode.
    fn listening(port: u16) -> Vec<(IpAddr, String)> {
        ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .flat_map(|table| listening_in(&table, port))
            .collect()
    }

    /// Finds who holds one of the sockets. Of several it is the oldest: a
    /// process that is being started holds for a moment what its parent does.
    fn holder_of(sockets: &[(IpAddr, String)]) -> Option<Holder> {
        if sockets.is_empty() {
            return None;
        }
        let holds = |process: &std::fs::DirEntry| {
            let descriptors = std::fs::read_dir(process.path().join("fd"));
            descriptors.into_iter().flatten().flatten().any(|descriptor| {
                let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
                let target = target.to_string_lossy();
                let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
                inode.is_some_and(|inode| sockets.iter().any(|(_, known)| known == inode))
            })
        };
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let holders = processes.filter_map(|process| {
            let pid = process.file_name().to_str()?.parse::<i32>().ok()?;
            let started = crate::sys::process::Identity::of(pid)?.start;
            holds(&process).then_some((started, pid))
        });
        let (_, pid) = holders.min()?;
        let name = crate::sys::process::name_of(pid).unwrap_or_default();
        Some(Holder { pid, name })
    }

    fn listening_in(table: &str, port: u16) -> Vec<(IpAddr, String)> {
        const LISTEN: &str = "0A";
        table
            .lines()
            .skip(1)
            .filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let (address, hex) = fields.get(1)?.rsplit_once(':')?;
                let matches = u16::from_str_radix(hex, 16).ok()? == port && *fields.get(3)? == LISTEN;
                let inode = matches.then(|| fields.get(9).map(|inode| (*inode).to_owned()))??;
                Some((read_address(address)?, inode))
            })
            .collect()
    }

    /// Reads an address as the kernel writes it: words of four bytes, each in
    /// the machine's order.
    fn read_address(hex: &str) -> Option<IpAddr> {
        let word = |at: usize| u32::from_str_radix(hex.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
        if hex.len() == 8 {
            return Some(word(0)?.into());
        }
        let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
        let bytes: [u8; 16] = words.try_into().ok()?;
        Some(IpAddr::from(bytes).to_canonical())
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::net::IpAddr;

    use super::{Holder, Taker};

    pub(super) fn port_holder(port: u16) -> Option<Holder> {
        ask(&format!("-iTCP:{port}"))
    }

    pub(super) fn taker(address: IpAddr, port: u16) -> Taker {
        let bracketed = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let found = ask(&format!("-iTCP@{bracketed}:{port}")).or_else(|| port_holder(port));
        let connects = || std::net::TcpStream::connect((address, port)).is_ok();
        match found {
            Some(holder) => Taker::Process(holder),
            // lsof shows other users' sockets to root only.
            None if connects() => Taker::Hidden,
            None => Taker::Nobody,
        }
    }

    fn ask(socket: &str) -> Option<Holder> {
        let output = std::process::Command::new("lsof")
            .args(["-nP", socket, "-sTCP:LISTEN", "-Fpc"])
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
        let own = i32::try_from(std::process::id()).expect("small");
        assert_eq!(port_holder(port).expect("found").pid, own);
        let ours = |taker: Taker| matches!(taker, Taker::Process(holder) if holder.pid == own);
        assert!(ours(taker([127, 0, 0, 1].into(), port)));
        assert_eq!(taker([127, 0, 0, 2].into(), port), Taker::Nobody);
        let all = TcpListener::bind("[::]:0").expect("a free port");
        let everywhere = all.local_addr().expect("bound").port();
        assert!(ours(taker([127, 0, 0, 2].into(), everywhere)));
        assert_eq!(
            try_listen(([127, 0, 0, 1], port).into()).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }
}
