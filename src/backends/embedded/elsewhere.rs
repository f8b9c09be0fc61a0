//! Stands in for the [host](super::host) where it is not Linux: nothing can be opened, but everything compiles.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn now() -> i64 {
    0
}

pub(super) fn boot() -> io::Result<String> {
    unsupported()
}

pub(super) fn shifted() -> bool {
    false
}

pub(super) fn identity(_: &Path) -> io::Result<(u64, u64)> {
    unsupported()
}

pub(super) fn network(_: &Path) -> io::Result<Option<&'static str>> {
    unsupported()
}

pub(super) fn touch(_: &File) -> io::Result<()> {
    unsupported()
}

#[derive(Debug)]
pub(super) struct Wake(Infallible);

impl Wake {
    pub(super) fn new() -> io::Result<Self> {
        unsupported()
    }

    pub(super) fn ring(&self) {
        match self.0 {}
    }
}

#[derive(Debug)]
pub(super) struct Ear(Infallible);

impl Ear {
    pub(super) fn new(_: &Path) -> io::Result<Self> {
        unsupported()
    }
}

pub(super) fn wait(wake: &Wake, ear: Option<&Ear>, _: Option<Duration>) -> io::Result<()> {
    match ear.map_or(&wake.0, |ear| &ear.0) {
        &never => match never {},
    }
}
