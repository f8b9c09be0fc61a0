//! A server in the foreground, for people.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::servers::etcd::{Options, Version};

/// Starts what the arguments say, prints its URL, and waits to be told to end.
pub(crate) async fn run(server: &str, arguments: &[String]) -> ExitCode {
    let options = match (server, parse(arguments)) {
        ("etcd", Ok(options)) => options,
        ("etcd", Err(reason)) => return refuse(&reason),
        _ => return refuse(&format!("unknown server {server}")),
    };
    // Before it starts, so that a signal in between is not missed.
    let mut ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(|kind| signal(kind).expect("signals can be heard"));
    let [interrupt, terminate, hangup] = &mut ends;
    let serve = async {
        let etcd = options.start().await;
        println!("{}", etcd.url(""));
        let etcdctl = etcd.etcdctl_command(&etcd.addresses());
        eprintln!("It runs until Ctrl-C. Its own client: {}", shell(etcdctl.as_std()));
        std::future::pending().await
    };
    tokio::select! {
        biased;
        _ = interrupt.recv() => ExitCode::SUCCESS,
        _ = terminate.recv() => ExitCode::SUCCESS,
        _ = hangup.recv() => ExitCode::SUCCESS,
        code = serve => code,
    }
}

fn parse(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options::new(Version::V3_5);
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or(format!("{argument} needs a value"));
        options = match argument {
            "--version" => {
                let name = value()?;
                let known = Version::ALL.into_iter().find(|version| version.name() == name);
                options.version(known.ok_or(format!("unknown version {name}"))?)
            }
            "--members" => {
                let members = value()?;
                options.members(members.parse().map_err(|_| format!("{members} is no number of members"))?)
            }
            "--tls" => options.tls(),
            "--auth" => options.auth(),
            _ => return Err(format!("unknown option {argument}")),
        };
    }
    Ok(options)
}

fn refuse(reason: &str) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::from(2)
}

/// The command as one would type it.
fn shell(command: &std::process::Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
