//! Files that are whole or absent: atomic writes, private creation, locks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};

use camino::{Utf8Path, Utf8PathBuf};
use nix::fcntl::{Flock, FlockArg};

/// Permission bits of a file that only its owner may read.
pub const PRIVATE: u32 = 0o600;
/// Permission bits of an ordinary file.
pub const PUBLIC: u32 = 0o644;

/// Writes a file so that a reader, or a crash, sees the old content or the new.
///
/// The content is synced before the rename, and the directory after it. The
/// mode holds from creation: a secret is never readable for a moment.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn write_atomic(path: &Utf8Path, content: &[u8], mode: u32) -> io::Result<()> {
    // A link to the file stays a link.
    let target = path.canonicalize_utf8();
    let path = target.as_deref().unwrap_or(path);
    let parent = path
        .parent()
        .filter(|parent| !parent.as_str().is_empty())
        .unwrap_or(Utf8Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new()
            .prefix(&format!(".{}.", path.file_name().unwrap_or("file")))
            .suffix(".tmp")
            .permissions(fs::Permissions::from_mode(mode))
            .tempfile_in(parent)?;
        // The umask applies on creation; a public file gets its bits here.
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
        if let Ok(before) = fs::metadata(path) {
            // What root writes for somebody stays theirs; others may give nothing away.
            let _ = std::os::unix::fs::fchown(file.as_file(), Some(before.uid()), Some(before.gid()));
        }
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_dir(parent)
    };
    write().map_err(|error| named(&error, "cannot write", path))
}

/// Writes into a file that cannot be exchanged for another, such as one that is
/// mounted by itself. A reader, or a crash, may see half of it.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn overwrite(path: &Utf8Path, content: &[u8]) -> io::Result<()> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).truncate(true).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(|error| named(&error, "cannot write", path))
}

/// Says whether an error is that something may not be written at all.
pub fn is_unwritable(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

/// Creates a directory and its parents, readable by its owner alone. One that
/// is there already is made so; one of another user's is refused.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn create_private_dir(path: &Utf8Path) -> io::Result<()> {
    let create = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let metadata = fs::symlink_metadata(path)?;
        if metadata.uid() != crate::sys::process::user_id() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it belongs to another user",
            ));
        }
        if metadata.is_dir() && metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    };
    create().map_err(|error| named(&error, "cannot create", path))
}

/// Creates a directory and its parents.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn create_dir(path: &Utf8Path) -> io::Result<()> {
    fs::create_dir_all(path).map_err(|error| named(&error, "cannot create", path))
}

/// Reads a text file, or nothing when it does not exist.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn read_optional(path: &Utf8Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(named(&error, "cannot read", path)),
    }
}

/// Reads a text file.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn read(path: &Utf8Path) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| named(&error, "cannot read", path))
}

/// Removes a file; says whether there was one.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn remove(path: &Utf8Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(named(&error, "cannot remove", path)),
    }
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// Those of the file system.
pub fn sync_dir(path: &Utf8Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes everything durable that was changed on the file system of `file`.
///
/// # Errors
/// When anything of it failed (Linux 5.8 and later report that).
pub fn sync_file_system(file: &File) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        nix::unistd::syncfs(file).map_err(io::Error::from)
    }
    #[cfg(not(target_os = "linux"))]
    {
        file.sync_all()
    }
}

/// Says whether [`sync_file_system`] can be relied on: a Linux that reports
/// failures, and a file system known to make all it holds durable.
pub fn can_sync_file_system(path: &Utf8Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::statfs::{BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, TMPFS_MAGIC, XFS_SUPER_MAGIC, statfs};
        let known = [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC];
        let release = nix::sys::utsname::uname().ok();
        let version = release.as_ref().and_then(|name| {
            let mut parts = name.release().to_str()?.split(|c: char| !c.is_ascii_digit());
            Some((parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?))
        });
        version >= Some((5, 8))
            && statfs(path.as_std_path()).is_ok_and(|found| known.contains(&found.filesystem_type()))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = path;
        false
    }
}

/// Makes all changes of all file systems durable, where nothing finer is there.
pub fn sync_everything() {
    nix::unistd::sync();
}

/// Opens a file for appending, made with `mode` when it is new.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn append(path: &Utf8Path, mode: u32) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(mode)
        .open(path)
        .map_err(|error| named(&error, "cannot open", path))
}

/// Says whether this user may write to a file or directory.
pub fn is_writable(path: &Utf8Path) -> bool {
    nix::unistd::access(path.as_std_path(), nix::unistd::AccessFlags::W_OK).is_ok()
}

/// Returns the permission bits of a file, or nothing when it does not exist.
pub fn mode(path: &Utf8Path) -> Option<u32> {
    Some(fs::metadata(path).ok()?.permissions().mode() & 0o7777)
}

/// Gives a directory to another user.
///
/// # Errors
/// When that is not allowed.
pub fn give_to(path: &Utf8Path, account: super::process::Account) -> io::Result<()> {
    std::os::unix::fs::chown(path, Some(account.user), Some(account.group))
        .map_err(|error| named(&error, "cannot give away", path))
}

/// Returns the id of the user who owns a path.
///
/// # Errors
/// Those of the file system.
pub fn owner(path: &Utf8Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.uid())
}

/// Opens a file that is locked; what it holds stays.
fn open_lock_file(path: &Utf8Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(PRIVATE)
        .open(path)
        .map_err(|error| named(&error, "cannot open", path))
}

/// An exclusive lock on a file, held until it is dropped.
///
/// The file is never removed: a lock on an unlinked file protects nothing.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
}

impl Lock {
    /// Takes the lock, or returns nothing when somebody holds it.
    ///
    /// # Errors
    /// Those of the file system, with the path in the message.
    pub fn try_take(path: &Utf8Path) -> io::Result<Option<Self>> {
        let file = open_lock_file(path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => Ok(Some(Self { file })),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(named(&errno.into(), "cannot lock", path)),
        }
    }

    /// Takes a share of the lock, or returns nothing when somebody holds all of it.
    ///
    /// # Errors
    /// Those of the file system, with the path in the message.
    pub fn try_share(path: &Utf8Path) -> io::Result<Option<Self>> {
        let file = open_lock_file(path)?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(file) => Ok(Some(Self { file })),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, errno)) => Err(named(&errno.into(), "cannot lock", path)),
        }
    }

    /// Takes a share of the lock, waiting for whoever holds all of it.
    ///
    /// # Errors
    /// Those of the file system, with the path in the message.
    pub fn share(path: &Utf8Path) -> io::Result<Self> {
        let file = open_lock_file(path)?;
        Flock::lock(file, FlockArg::LockShared)
            .map(|file| Self { file })
            .map_err(|(_, errno)| named(&errno.into(), "cannot lock", path))
    }

    /// Takes the lock, waiting for whoever holds it.
    ///
    /// # Errors
    /// Those of the file system, with the path in the message.
    pub fn take(path: &Utf8Path) -> io::Result<Self> {
        let file = open_lock_file(path)?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map(|file| Self { file })
            .map_err(|(_, errno)| named(&errno.into(), "cannot lock", path))
    }

    /// Returns the locked file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Reads what the locked file holds.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn read(&mut self) -> io::Result<String> {
        let mut text = String::new();
        self.file.read_to_string(&mut text)?;
        Ok(text)
    }
}

/// A lock that processes inherit: it lasts as long as this handle or any
/// process that was given it holds the file open.
#[derive(Debug)]
pub struct SharedLock(File);

impl SharedLock {
    /// Takes the lock, or returns nothing when somebody holds it.
    ///
    /// # Errors
    /// Those of the file system, with the path in the message.
    pub fn try_take(path: &Utf8Path) -> io::Result<Option<Self>> {
        let file = open_lock_file(path)?;
        Ok(flock(&file, nix::libc::LOCK_EX)?.then_some(Self(file)))
    }

    /// Says whether somebody holds the lock, without taking it.
    ///
    /// # Errors
    /// Those of the file system, with the path in the message.
    pub fn is_held(path: &Utf8Path) -> io::Result<bool> {
        match File::open(path) {
            Ok(file) => Ok(!flock(&file, nix::libc::LOCK_SH)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(named(&error, "cannot open", path)),
        }
    }

    /// Returns the locked file.
    pub fn file(&self) -> &File {
        &self.0
    }
}

/// Locks a file without waiting; says whether that succeeded. Unlike nix's
/// guard, nothing here ever unlocks: that would unlock it for inheritors too.
#[expect(unsafe_code, reason = "nix's flock releases the lock when its guard is dropped")]
fn flock(file: &File, kind: i32) -> io::Result<bool> {
    use std::os::fd::AsRawFd as _;
    // SAFETY: the descriptor is open for the length of the call.
    let outcome = unsafe { nix::libc::flock(file.as_raw_fd(), kind | nix::libc::LOCK_NB) };
    if outcome == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::WouldBlock {
        Ok(false)
    } else {
        Err(error)
    }
}

/// Moves a file into a backup directory under a name that says where it was.
///
/// `registry/config.yml` becomes `registry__config.yml.20240926213636`; a
/// number follows when that exists. Returns the backup's path.
///
/// # Errors
/// Those of the file system, with the path in the message.
pub fn back_up(path: &Utf8Path, label: &str, backups: &Utf8Path, stamp: &str) -> io::Result<Utf8PathBuf> {
    create_private_dir(backups)?;
    let base = format!("{}.{stamp}", label.replace('/', "__"));
    let mut target = backups.join(&base);
    let mut count = 1;
    while target.exists() {
        count += 1;
        target = backups.join(format!("{base}.{count}"));
    }
    let content = fs::read(path).map_err(|error| named(&error, "cannot read", path))?;
    write_atomic(&target, &content, mode(path).unwrap_or(PRIVATE) & 0o700)?;
    Ok(target)
}

/// Puts what was tried and the path before a file system's message.
pub fn named(error: &io::Error, tried: &str, path: &Utf8Path) -> io::Error {
    io::Error::new(error.kind(), format!("{tried} {path}: {error}"))
}
