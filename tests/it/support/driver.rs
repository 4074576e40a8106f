//! The storage drivers that the suite runs on, with a full disk at whichever
//! operation is wanted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use camino::Utf8Path;
use kdk::registry::storage::drivers::filesystem::disk::{Disk, Observer, Operation};
use kdk::registry::storage::drivers::object::{Objects, store};
use kdk::registry::storage::{Drivers, Filesystem, Holder, Storage, Work};

/// A driver, as tests ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// Files, each synced for itself.
    FilesOneByOne,
    /// Files, synced in groups.
    FilesInGroups,
    /// Objects in memory.
    Memory,
}

/// A storage of some kind, for as long as a test needs it.
pub struct TestStorage {
    pub kind: DriverKind,
    pub storage: Storage,
    pub full: Arc<FullAt>,
    directory: tempfile::TempDir,
}

/// Has no room left for one operation.
#[derive(Debug)]
pub struct FullAt {
    at: AtomicUsize,
    count: AtomicUsize,
    group: bool,
}

impl FullAt {
    /// Plans the failure of the operation of that number, from now on.
    pub fn plan(&self, at: usize) {
        self.count.store(0, Ordering::SeqCst);
        self.at.store(at, Ordering::SeqCst);
    }

    /// Plans nothing more; says whether the planned one was reached.
    pub fn end(&self) -> bool {
        let at = self.at.swap(usize::MAX, Ordering::SeqCst);
        self.count.load(Ordering::SeqCst) > at
    }

    fn before(&self) -> io::Result<()> {
        if self.count.fetch_add(1, Ordering::SeqCst) == self.at.load(Ordering::SeqCst) {
            return Err(io::Error::from_raw_os_error(nix::libc::ENOSPC));
        }
        Ok(())
    }
}

impl Observer for FullAt {
    fn before(&self, _: &Operation<'_>) -> io::Result<()> {
        self.before()
    }

    fn may_group(&self) -> bool {
        self.group
    }
}

impl store::Observer for FullAt {
    fn before(&self, _: &'static str, _: &str) -> io::Result<()> {
        self.before()
    }
}

impl DriverKind {
    pub fn open(self) -> TestStorage {
        let directory = super::temporary();
        let full = Arc::new(FullAt {
            at: AtomicUsize::new(usize::MAX),
            count: AtomicUsize::new(0),
            group: self == Self::FilesInGroups,
        });
        let driver = if self == Self::Memory {
            let store = store::Store::in_memory();
            Drivers::Objects(Objects::on(
                store.observed(Arc::clone(&full) as Arc<dyn store::Observer>),
            ))
        } else {
            let root = Utf8Path::from_path(directory.path()).expect("UTF-8");
            let disk = Disk::observed(Arc::clone(&full) as Arc<dyn Observer>);
            Drivers::Filesystem(Filesystem::on(root, disk).expect("opened"))
        };
        TestStorage {
            kind: self,
            storage: leased(Storage::new(driver)),
            full,
            directory,
        }
    }
}

/// Takes the right to write to a storage.
pub fn leased(storage: Storage) -> Storage {
    storage.lease(&Holder::own(Work::Serve)).expect("leased");
    storage
}

impl TestStorage {
    /// Returns the storage as somebody sees it who opens it anew.
    pub fn anew(&self) -> Storage {
        if self.kind == DriverKind::Memory {
            return self.storage.clone();
        }
        let root = Utf8Path::from_path(self.directory.path()).expect("UTF-8");
        Storage::in_directory(root).expect("opened")
    }

    /// Returns the storage as the next server finds it when this one was killed.
    pub fn after_kill(self) -> Self {
        if self.kind == DriverKind::Memory {
            return self;
        }
        let next = self.anew();
        drop(self.storage);
        Self {
            storage: leased(next),
            kind: self.kind,
            full: self.full,
            directory: self.directory,
        }
    }

    /// Returns where files lie, if they do.
    pub fn files(&self) -> Option<&std::path::Path> {
        (self.kind != DriverKind::Memory).then(|| self.directory.path())
    }
}

/// Makes tests of functions that take a driver, one of each for every kind.
macro_rules! on_every_driver {
    ($($name:ident),* $(,)?) => {
        mod files_one_by_one {
            $(#[test] fn $name() { super::run(super::$name($crate::support::driver::DriverKind::FilesOneByOne)); })*
        }
        mod files_in_groups {
            $(#[test] fn $name() { super::run(super::$name($crate::support::driver::DriverKind::FilesInGroups)); })*
        }
        mod memory {
            $(#[test] fn $name() { super::run(super::$name($crate::support::driver::DriverKind::Memory)); })*
        }
    };
}
pub(crate) use on_every_driver;
