//! Where the programs of a version are, and how they are started.

use std::path::PathBuf;
use std::process::Command;

use super::Version;
use crate::servers::{Release as _, in_path, unpacked};

/// The directory with the programs, which are called `redis-server` and so on, or `valkey-server`.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    directory: PathBuf,
    prefix: &'static str,
}

impl Programs {
    pub(super) fn of(version: Version) -> Self {
        let prefix = if version == Version::Valkey8_1 { "valkey" } else { "redis" };
        let server = format!("{prefix}-server");
        let ours = unpacked(version.directory());
        if ours.join(&server).exists() {
            return Self { directory: ours, prefix };
        }
        // One of PATH will do if it is the version that the test asks for.
        let fits = |program: &PathBuf| {
            let printed = Command::new(program).arg("--version").output().expect("it runs").stdout;
            let wanted = format!(" v={}.", version.number());
            let cli = program.with_file_name(format!("{prefix}-cli"));
            String::from_utf8_lossy(&printed).contains(&wanted) && cli.is_file()
        };
        match in_path(&server).into_iter().find(fits) {
            Some(program) => Self { directory: program.with_file_name(""), prefix },
            None => panic!(
                "{} is neither in {} nor in PATH: scripts/servers install redis{}",
                version.directory(),
                ours.display(),
                if Version::USUAL.contains(&version) { "" } else { " --full" },
            ),
        }
    }

    /// The words that run `server` or `cli` with the libraries that came with it, and the dynamic linker if that did.
    pub(super) fn words(&self, program: &str) -> Vec<String> {
        let architecture = std::env::consts::ARCH;
        let libraries = self.directory.with_file_name("lib").join(format!("{architecture}-linux-gnu"));
        let is_linker = |file: &PathBuf| {
            file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ld-linux-"))
        };
        let files = std::fs::read_dir(&libraries).into_iter().flatten();
        let linker = files.filter_map(|file| Some(file.ok()?.path())).find(is_linker);
        let mut words = vec!["/usr/bin/env".to_owned(), format!("LD_LIBRARY_PATH={}", libraries.display())];
        words.extend(linker.map(|linker| linker.display().to_string()));
        words.push(self.directory.join(format!("{}-{program}", self.prefix)).display().to_string());
        words
    }
}
