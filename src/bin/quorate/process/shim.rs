//! A command that dies with the process that started it, however that ends.
//!
//! Linux sends a process a signal at the death of its parent if it has asked for that itself, so the command is not
//! started directly: this program is, once more, which asks, makes sure that its parent is still there, and then becomes
//! the command. The wish survives that, unless the command changes its user. The parent, to Linux, is the thread that
//! started it: children are started from the main thread alone, which lasts as long as the process. `prctl(2)`,
//! `PR_SET_PDEATHSIG`. The same detour lets the command's process group have the terminal before the command can read
//! from it.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::getppid;

use super::terminal;
use crate::exit::Failure;

/// The first argument of a process that is to become a command; its parent, whether it gets the terminal, and the
/// command follow.
const BECOME: &str = "__become";
const WITH_TERMINAL: &str = "with-terminal";
const WITHOUT: &str = "without-terminal";

/// The command, to be started so that it dies with this process.
pub(super) fn command(program: &OsStr, arguments: &[OsString], with_terminal: bool) -> Command {
    let mut command = Command::new(own_program());
    command.arg(BECOME).arg(std::process::id().to_string());
    command.arg(if with_terminal { WITH_TERMINAL } else { WITHOUT });
    command.arg(program).args(arguments);
    command
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

/// Becomes the command, if that is what this process was started for. Returns if it was not, or with what went wrong.
pub(crate) fn become_command(words: &[OsString]) -> Option<Failure> {
    let [_, marker, parent, terminal, program, arguments @ ..] = words else { return None };
    if marker != BECOME {
        return None;
    }
    if let Err(error) = die_with_parent() {
        return Some(crate::exit::system(error));
    }
    let still_there = getppid().is_some_and(|now| *parent == *now.as_raw_nonzero().to_string());
    if !still_there {
        return Some(Failure::command(71, "the process that started this command is gone"));
    }
    if terminal == WITH_TERMINAL {
        terminal::take();
    }
    let error = Command::new(program).args(arguments).exec();
    let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
    Some(Failure::command(code, format!("the command {} cannot be run: {error}", program.display())))
}

#[cfg(target_os = "linux")]
fn die_with_parent() -> std::io::Result<()> {
    use rustix::process::{Signal, set_parent_process_death_signal};
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Other systems have no such signal.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "it is so elsewhere")]
fn die_with_parent() -> std::io::Result<()> {
    Ok(())
}
