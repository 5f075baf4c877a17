//! A disk of a fixed size that a test may fill: a tmpfs in a mount namespace that only the test's processes are in.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// The disk. It is gone with the value.
pub(crate) struct SmallDisk {
    /// Keeps the namespace alive.
    holder: Child,
    as_root: bool,
    folder: PathBuf,
}

impl SmallDisk {
    /// Puts a disk of so many megabytes in the place of `folder`, for the commands that [`Self::command`] makes.
    pub(crate) fn new(folder: &Path, megabytes: u32) -> Self {
        let id = Command::new("id").arg("-u").output().unwrap();
        let as_root = String::from_utf8_lossy(&id.stdout).trim() == "0";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        if !as_root {
            command.args(["--user", "--map-root-user"]);
        }
        let script = "mount -t tmpfs -o size=\"$1\"m,mode=0700 small-disk \"$0\" && echo mounted && exec sleep 3600";
        let mut holder = command
            .args(["sh", "-c", script])
            .arg(folder)
            .arg(megabytes.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs `unshare` (Debian package util-linux)");
        let mut line = String::new();
        let said = BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line);
        assert!(
            said.is_ok() && line.trim() == "mounted",
            "this test fills a disk of its own and must mount one: run as root with CAP_SYS_ADMIN, or where \
             unprivileged user namespaces are allowed (sysctl kernel.unprivileged_userns_clone=1)"
        );
        Self {
            holder,
            as_root,
            folder: folder.to_owned(),
        }
    }

    /// A command that sees the disk.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if !self.as_root {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--", program]);
        command
    }

    /// A file on the disk, as seen from outside.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        let inside = self.folder.join(name);
        let inside = inside.strip_prefix("/").unwrap();
        Path::new("/proc")
            .join(self.holder.id().to_string())
            .join("root")
            .join(inside)
    }

    /// Takes every block that is free, at once, as another program might.
    pub(crate) fn fill(&self) {
        let file = File::create(self.path(FILLER)).unwrap();
        loop {
            let found = statvfs(self.path("")).unwrap();
            let free = found.f_bavail * found.f_frsize;
            // Another program, such as the node, may have been faster; then there is less.
            if fallocate(&file, FallocateFlags::empty(), 0, free).is_ok() {
                return;
            }
        }
    }

    /// Gives the room back.
    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.path(FILLER)).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Already gone if the namespace could not be made.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// Waits until something holds; the deadline only keeps a broken node from stopping all tests.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain until {what}");
}

const FILLER: &str = "filler";
