//! The clients that people have for ZooKeeper: kazoo, in Python, and Curator, in Java.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::super::certificates::Certificates;
use super::super::{in_path, unpacked};
use super::{JARS, PASSWORD, USER, Version, ZooKeeper, class_path};

/// What Curator needs besides a server's [`JARS`].
const CURATOR: [&str; 7] = [
    "curator-client",
    "curator-framework",
    "curator-recipes",
    "guava",
    "jackson-annotations",
    "jackson-core",
    "jackson-databind",
];

/// Where the programs lie that use them.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kit/servers/zookeeper")
}

impl ZooKeeper {
    /// `kazoo.py` with everything that a client needs, and these words; see there.
    pub(crate) fn kazoo(&self, addresses: &[SocketAddr], words: &[&str]) -> Command {
        let mut command = bare_kazoo();
        command.arg("--hosts").arg(hosts(addresses));
        if let Some(Certificates { authority, client, .. }) = &self.certificates {
            command.arg("--ca").arg(authority);
            command.arg("--cert").arg(&client.certificate).arg("--key").arg(&client.key);
        }
        if self.options.auth {
            command.arg("--auth").arg(format!("{USER}:{PASSWORD}"));
        }
        command.args(words);
        command
    }

    /// `Curator.java` with everything that a client needs where there is no encryption, and these words; see there.
    pub(crate) async fn curator(&self, addresses: &[SocketAddr], words: &[&str]) -> Command {
        let mut command = self.program_in_java("Curator").await;
        command.arg(hosts(addresses));
        command.arg(if self.options.auth { format!("{USER}:{PASSWORD}") } else { String::new() });
        command.args(words);
        command
    }

    /// One of our programs, compiled by what came with the server, as there may be no compiler in the system. It runs
    /// with the same libraries whatever version the server is of.
    pub(crate) async fn program_in_java(&self, name: &str) -> Command {
        let (jars, classes) = (Version::V3_8.jars(), self.members.site().join("classes"));
        let path = [class_path(&jars, &JARS), class_path(&jars, &CURATOR)].join(":");
        if !classes.join(name).with_extension("class").is_file() {
            let mut compiler = quiet(&self.java);
            compiler.arg("-cp").arg(class_path(&jars, &["eclipse-jdt-core"]));
            compiler.args([
                "org.eclipse.jdt.internal.compiler.batch.Main",
                "-proc:none",
                "-17",
                "-cp",
                &path,
            ]);
            compiler.arg("-d").arg(&classes).arg(sources().join(name).with_extension("java"));
            let output = compiler.output().await.expect("java runs");
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let mut command = quiet(&self.java);
        command.args(["-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error"]);
        command.arg("-cp").arg(format!("{path}:{}", classes.display())).arg(name);
        command
    }
}

/// `kazoo.py` that knows of no cluster.
pub(crate) fn bare_kazoo() -> Command {
    let library = unpacked("kazoo").with_file_name("lib/python3/dist-packages");
    assert!(library.is_dir(), "kazoo is not in {}: scripts/servers install zookeeper", library.display());
    let python = in_path("python3").into_iter().next().expect("no python3 is in PATH");
    let mut command = quiet(&python);
    command.env("PYTHONPATH", library).env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(sources().join("kazoo.py"));
    command
}

fn quiet(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn hosts(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
}
