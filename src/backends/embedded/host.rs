//! What is asked of the host: its boot clock, its files' identities, and to be woken.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the host booted, suspended time included: the same number in every process of the host.
pub(super) fn now() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// A name for this boot, without which the clock's readings mean nothing.
pub(super) fn boot() -> io::Result<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let boot = boot.map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))?;
    Ok(boot.trim().to_owned())
}

/// Whether a time namespace makes this process's boot clock differ from the host's.
pub(super) fn shifted() -> bool {
    // Kernels without time namespaces do not have the file.
    let offsets = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    offsets.lines().any(is_shifted)
}

/// Reads a line such as `boottime  -3600  0`: clock, seconds, nanoseconds.
fn is_shifted(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.next() == Some("boottime") && words.any(|offset| offset != "0")
}

/// Which file stands at the path now, whatever its name: device and inode.
pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// The name of the network file system the path is on, if it is on one.
pub(super) fn network(path: &Path) -> io::Result<Option<&'static str>> {
    Ok(network_name(rustix::fs::statfs(path)?.f_type.cast_unsigned()))
}

/// Those on which several hosts may see one file: their locks or shared memory do not span hosts.
fn network_name(kind: u64) -> Option<&'static str> {
    match kind & 0xFFFF_FFFF {
        0x6969 => Some("NFS"),
        0x517B => Some("SMB"),
        0xFF53_4D42 => Some("CIFS"),
        0xFE53_4D42 => Some("SMB2"),
        0x00C3_6400 => Some("Ceph"),
        0x5346_414F => Some("AFS"),
        0x0BD0_0BD0 => Some("Lustre"),
        _ => None,
    }
}

/// Touches the first byte of a file, so that an [`Ear`] on it hears.
pub(super) fn touch(file: &File) -> io::Result<()> {
    rustix::io::pwrite(file, b".", 0)?;
    Ok(())
}

/// Wakes the engine out of [`wait`].
#[derive(Debug)]
pub(super) struct Wake(OwnedFd);

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// The next [`wait`] returns at once.
    pub(super) fn ring(&self) {
        // It can fail only when the count is full, and then it is awake anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// Hears when a file is touched.
#[derive(Debug)]
pub(super) struct Ear(OwnedFd);

impl Ear {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let ear = inotify::init(flags)?;
        inotify::add_watch(&ear, path, inotify::WatchFlags::MODIFY)?;
        Ok(Self(ear))
    }
}

/// Sleeps until it is woken, something is heard, or the time is up.
pub(super) fn wait(wake: &Wake, ear: Option<&Ear>, timeout: Option<Duration>) -> io::Result<()> {
    let timeout = timeout.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
    let watched: Vec<_> = std::iter::once(&wake.0).chain(ear.map(|ear| &ear.0)).collect();
    let mut polled: Vec<_> = watched.iter().map(|fd| PollFd::new(*fd, PollFlags::IN)).collect();
    match poll(&mut polled, timeout.as_ref()) {
        // Whoever waits looks at everything after a wake, so one for nothing does no harm.
        Ok(_) | Err(Errno::INTR) => watched.into_iter().try_for_each(drain),
        Err(error) => Err(error.into()),
    }
}

fn drain(fd: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0_u8; 4096];
    loop {
        match rustix::io::read(fd, &mut buffer) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_by_name() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(
            network_name(0xFFFF_FFFF_FF53_4D42),
            Some("CIFS"),
            "sign-extended, as some kernels tell it"
        );
        assert_eq!(network_name(0xEF53), None, "ext4");
        assert_eq!(network(Path::new("/proc")).unwrap(), None);
    }

    #[test]
    fn a_time_namespace_is_seen() {
        assert!(!is_shifted("boottime           0         0"));
        assert!(is_shifted("boottime           -3600         0"));
        assert!(!is_shifted("monotonic          86400         0"));
    }

    #[test]
    fn a_wake_before_the_wait_is_not_lost() {
        let wake = Wake::new().unwrap();
        wake.ring();
        wait(&wake, None, None).unwrap();
    }
}
