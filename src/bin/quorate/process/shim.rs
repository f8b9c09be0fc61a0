//! A command that dies with the process that started it, however that ends.
//!
//! Linux sends a process a signal at the death of its parent if it has asked for that itself, so the command is not
//! started directly: this program is, once more, which asks, makes sure that its parent is still there, and then becomes
//! the command. The wish survives that, unless the command changes its user. The parent, to Linux, is the thread that
//! started it: children are started from the main thread alone, which lasts as long as the process. `prctl(2)`,
//! `PR_SET_PDEATHSIG`. The same detour lets the command's process group have the terminal before the command can read
//! from it.
//!
//! The detour takes up to a millisecond, so it can be begun before it is known whether the command may run: the process
//! waits for an [`Order`], which comes through a socket and brings the command's own stdin. Where this process has but one
//! thread it is copied, and the copy goes the same way.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut, Write as _, stdin};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, getppid, setpgid};

use super::{Environment, terminal};
use crate::exit::{Failure, system};

/// The first argument of a process that is to become a command; its parent and the command follow.
const BECOME: &str = "__become";

/// The end of the last variable, and of the [`Order`].
const END: &[u8] = b"\0\0";

/// Room for one descriptor.
const ONE: usize = rustix::cmsg_space!(ScmRights(1));

/// The process that is to become the command, to be started, and what it is ordered through.
pub(super) fn command(words: &[OsString]) -> Result<(Command, UnixStream), Failure> {
    let (program, arguments) = split(words)?;
    let (ours, its) = UnixStream::pair().map_err(system)?;
    let mut command = Command::new(own_program());
    command.arg(BECOME).arg(std::process::id().to_string()).arg(program).args(arguments);
    command.stdin(OwnedFd::from(its));
    Ok((command, ours))
}

/// What such a process waits for. Without one it ends when the other end of the socket does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// Whether it is to have the terminal.
    pub(super) with_terminal: bool,
    /// What it finds in its environment besides what this process does.
    pub(super) environment: Vec<(OsString, OsString)>,
}

impl Order {
    pub(super) fn new(with_terminal: bool, environment: &Environment) -> Self {
        let environment = environment.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
        Self { with_terminal, environment }
    }

    /// Sends it, with this process's stdin: in one message, if it fits, so that the other is woken once.
    pub(super) fn send(&self, mut line: UnixStream) -> io::Result<()> {
        let stdin = stdin();
        let passed = [stdin.as_fd()];
        let mut space = [MaybeUninit::uninit(); ONE];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&passed));
        let text = self.write();
        let sent =
            retry_on_intr(|| sendmsg(&line, &[IoSlice::new(&text)], &mut ancillary, SendFlags::empty()))?;
        line.write_all(text.get(sent..).unwrap_or_default())
    }

    /// A word on the terminal and the variables, each with NUL behind it, and one more at the end.
    fn write(&self) -> Vec<u8> {
        let mut text = if self.with_terminal { b"+\0" } else { b"-\0" }.to_vec();
        for (name, value) in &self.environment {
            text.extend([name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
        }
        text.push(0);
        text
    }

    /// Reads it; `None` for one that is not whole.
    fn read(text: &[u8]) -> Option<Self> {
        let mut words = text.strip_suffix(END)?.split(|byte| *byte == 0);
        let with_terminal = words.next() == Some(b"+");
        let pairs = words.filter_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (pair.get(..equals)?, pair.get(equals + 1..)?);
            Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
        });
        Some(Self { with_terminal, environment: pairs.collect() })
    }

    /// Waits for one, and puts the stdin that comes with it in the place of this process's. `None` if none will come.
    fn receive(line: impl AsFd) -> io::Result<Option<Self>> {
        let mut part = [0; 4096];
        let mut space = [MaybeUninit::uninit(); ONE];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut read = retry_on_intr(|| {
            recvmsg(&line, &mut [IoSliceMut::new(&mut part)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?
        .bytes;
        let mut text = Vec::new();
        while read > 0 {
            text.extend_from_slice(part.get(..read).unwrap_or_default());
            if text.ends_with(END) {
                break;
            }
            read = retry_on_intr(|| rustix::io::read(&line, &mut part))?;
        }
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut passed) = message
                && let Some(its_stdin) = passed.next()
            {
                rustix::stdio::dup2_stdin(its_stdin)?;
            }
        }
        Ok(Self::read(&text))
    }
}

/// The very file that runs now, also if another was installed in its place.
#[cfg(target_os = "linux")]
fn own_program() -> OsString {
    "/proc/self/exe".into()
}

#[cfg(not(target_os = "linux"))]
fn own_program() -> OsString {
    std::env::current_exe().map_or_else(|_| "quorate".into(), Into::into)
}

/// Becomes the command, if that is what this process was started for. Returns if it was not, or when there is no command
/// to become.
pub(crate) fn become_command(words: &[OsString]) -> Option<ExitCode> {
    let [_, marker, parent, program, arguments @ ..] = words else { return None };
    if marker != BECOME {
        return None;
    }
    let is_parent = |now: Pid| *parent == *now.as_raw_nonzero().to_string();
    Some(ended(wait_to_become(is_parent, stdin(), program, arguments)))
}

/// The same in a copy of the parent, which leads no group yet.
pub(super) fn become_from_copy(parent: Pid, line: UnixStream, words: &[OsString]) -> ExitCode {
    let become_it = || {
        setpgid(None, None).map_err(|error| system(error.into()))?;
        let (program, arguments) = split(words)?;
        wait_to_become(|now| now == parent, line, program, arguments)
    };
    ended(become_it())
}

fn split(words: &[OsString]) -> Result<(&OsString, &[OsString]), Failure> {
    words.split_first().ok_or_else(|| Failure::usage("there is no command to run"))
}

fn ended(end: Result<(), Failure>) -> ExitCode {
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}

fn wait_to_become(
    is_parent: impl FnOnce(Pid) -> bool,
    line: impl AsFd,
    program: &OsStr,
    arguments: &[OsString],
) -> Result<(), Failure> {
    die_with_parent().map_err(system)?;
    if !getppid().is_some_and(is_parent) {
        return Err(Failure::command(71, "the process that started this command is gone"));
    }
    let found = find(program, std::env::var_os("PATH").as_deref());
    let Some(order) = Order::receive(line).map_err(system)? else { return Ok(()) };
    if order.with_terminal {
        terminal::take();
    }
    let become_it = |path: &OsStr| {
        Command::new(path).arg0(program).args(arguments).envs(order.environment.clone()).exec()
    };
    // Should it be gone by now, or not be what it looks like, it is looked for as ever.
    if let Some(path) = &found {
        drop(become_it(path.as_os_str()));
    }
    let error = become_it(program);
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    Err(Failure::command(code, format!("the command {} cannot be run: {error}", program.display())))
}

/// Where a program is that is named without a directory, while there is time for it: to try each directory by starting it
/// there takes ten times as long as to look. `None` leaves it to that.
fn find(program: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    let is_executable =
        |file: &PathBuf| file.metadata().is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0);
    let named = !program.is_empty() && !program.as_bytes().contains(&b'/');
    // Those that are no paths from the root mean this process's directory, and are rare.
    let directories =
        std::env::split_paths(path.filter(|_| named)?).take_while(|directory| directory.is_absolute());
    directories.map(|directory| directory.join(program)).find(is_executable)
}

#[cfg(target_os = "linux")]
fn die_with_parent() -> io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Other systems have no such signal.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "it is so elsewhere")]
fn die_with_parent() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_where_it_can_be_run() {
        use std::os::unix::fs::PermissionsExt as _;
        let [none, plain, runs, later] = [(); 4].map(|()| tempfile::tempdir().unwrap());
        for (directory, mode) in [(&plain, 0o644), (&runs, 0o755), (&later, 0o755)] {
            let file = directory.path().join("program");
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::create_dir(none.path().join("program")).unwrap();
        let path = std::env::join_paths([&none, &plain, &runs, &later].map(tempfile::TempDir::path)).unwrap();
        let found = |program: &str, path: &OsStr| find(OsStr::new(program), Some(path));
        assert_eq!(found("program", &path), Some(runs.path().join("program")));
        assert_eq!(found("./program", &path), None);
        assert_eq!(found("", &path), None);
        assert_eq!(found("another", &path), None);
        assert_eq!(find(OsStr::new("program"), None), None);
        // The directory of this process comes first there, and who starts it knows that best.
        let mut here = OsString::from(":");
        here.push(&path);
        assert_eq!(found("program", &here), None);
    }

    #[test]
    fn an_order_is_read_as_it_was_written_and_not_before_it_is_whole() {
        for with_terminal in [true, false] {
            for environment in [
                vec![],
                vec![("A", "".into()), ("B", "b=c".into())],
                vec![("A", "a".into()), ("B", "".into())],
            ] {
                let order = Order::new(with_terminal, &environment);
                let text = order.write();
                for length in 0..text.len() {
                    let part = &text[..length];
                    assert!(!part.ends_with(END) && Order::read(part).is_none(), "{part:?}");
                }
                assert_eq!(Order::read(&text), Some(order));
            }
        }
    }
}
