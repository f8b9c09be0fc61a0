//! A command that dies with the process that started it, however that ends.
//!
//! Linux sends a process a signal at the death of its parent if it has asked for that itself, so the command is not
//! started directly: this program is, once more, which asks, makes sure that its parent is still there, and then becomes
//! the command. The wish survives that, unless the command changes its user. The parent, to Linux, is the thread that
//! started it: children are started from the main thread alone, which lasts as long as the process. `prctl(2)`,
//! `PR_SET_PDEATHSIG`. The same detour lets the command's process group have the terminal before the command can read
//! from it.
//!
//! The detour takes about a millisecond, so it can be begun before it is known whether the command may run: the process
//! waits for an [`Order`], which comes through a socket in the place of its stdin and brings the command's own stdin.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _, stdin};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::getppid;

use super::{Environment, terminal};
use crate::exit::{Failure, system};

/// The first argument of a process that is to become a command; its parent and the command follow.
const BECOME: &str = "__become";

/// Room for one descriptor.
const ONE: usize = rustix::cmsg_space!(ScmRights(1));

/// The process that is to become the command, to be started, and what it is ordered through.
pub(super) fn command(program: &OsStr, arguments: &[OsString]) -> io::Result<(Command, UnixStream)> {
    let (ours, its) = UnixStream::pair()?;
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

    /// Sends it, with this process's stdin.
    pub(super) fn send(&self, mut line: UnixStream) -> io::Result<()> {
        let stdin = stdin();
        let passed = [stdin.as_fd()];
        let mut space = [MaybeUninit::uninit(); ONE];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&passed));
        let first = [u8::from(self.with_terminal)];
        retry_on_intr(|| sendmsg(&line, &[IoSlice::new(&first)], &mut ancillary, SendFlags::empty()))?;
        let mut text = Vec::new();
        for (name, value) in &self.environment {
            text.extend([name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
        }
        line.write_all(&text)
    }

    /// Waits for one on stdin, and puts the stdin that comes with it in its place. `None` if none will come.
    fn receive() -> io::Result<Option<Self>> {
        let mut first = [0];
        let mut space = [MaybeUninit::uninit(); ONE];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = retry_on_intr(|| {
            recvmsg(stdin(), &mut [IoSliceMut::new(&mut first)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        })?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let mut text = Vec::new();
        stdin().read_to_end(&mut text)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut passed) = message
                && let Some(its_stdin) = passed.next()
            {
                rustix::stdio::dup2_stdin(its_stdin)?;
            }
        }
        let pairs = text.split(|byte| *byte == 0).filter_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (name, value) = (pair.get(..equals)?, pair.get(equals + 1..)?);
            Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
        });
        Ok(Some(Self { with_terminal: first != [0], environment: pairs.collect() }))
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
    Some(match wait_to_become(parent, program, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    })
}

fn wait_to_become(parent: &OsStr, program: &OsStr, arguments: &[OsString]) -> Result<(), Failure> {
    die_with_parent().map_err(system)?;
    let still_there = getppid().is_some_and(|now| *parent == *now.as_raw_nonzero().to_string());
    if !still_there {
        return Err(Failure::command(71, "the process that started this command is gone"));
    }
    let Some(order) = Order::receive().map_err(system)? else { return Ok(()) };
    if order.with_terminal {
        terminal::take();
    }
    let error = Command::new(program).args(arguments).envs(order.environment).exec();
    let code = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
    Err(Failure::command(code, format!("the command {} cannot be run: {error}", program.display())))
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
