//! A server in the foreground, for people.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::servers::{Cluster as _, Options, Release, consul, etcd, redis, zookeeper};

/// Starts what the arguments say, prints its URL, and waits to be told to end.
pub(crate) async fn dispatch(server: &str, arguments: &[String]) -> ExitCode {
    match server {
        "consul" => run::<consul::Version>(arguments).await,
        "etcd" => run::<etcd::Version>(arguments).await,
        "redis" => run::<redis::Version>(arguments).await,
        "zookeeper" => run::<zookeeper::Version>(arguments).await,
        _ => refuse(&format!("unknown server {server}")),
    }
}

async fn run<V: Release>(arguments: &[String]) -> ExitCode {
    let options = match parse::<V>(arguments) {
        Ok(options) => options,
        Err(reason) => return refuse(&reason),
    };
    // Before it starts, so that a signal in between is not missed.
    let mut ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .map(|kind| signal(kind).expect("signals can be heard"));
    let [interrupt, terminate, hangup] = &mut ends;
    let serve = async {
        let cluster = options.start().await;
        println!("{}", cluster.url(""));
        eprintln!("It runs until Ctrl-C. Its own client: {}", cluster.client_command());
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

fn parse<V: Release>(arguments: &[String]) -> Result<Options<V>, String> {
    let mut options = Options::new(V::usual());
    let mut rest = arguments.iter().map(String::as_str);
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().ok_or(format!("{argument} needs a value"));
        options = match argument {
            "--version" => options.version(value()?)?,
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
