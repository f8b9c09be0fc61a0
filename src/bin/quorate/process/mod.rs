//! Running a command that must not outlive what is held.

mod child;
mod shim;
mod signals;
mod supervise;
mod terminal;

pub(crate) use child::{Child, Copied, Environment, Forked, Prepared};
pub(crate) use shim::become_command;
pub(crate) use signals::{Signals, ended_by};
pub(crate) use supervise::{Claim, End, accompany, supervise};
