//! `doctor`

mod clocks;
mod latency;
mod measure;
mod promises;
mod report;

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate::kv::{Clock as _, Limits, Random, SystemClock};

use self::clocks::Renewals;
use self::latency::Latency;
use self::measure::Scratch;
use crate::arguments::{DoctorArguments, StoreArguments};
use crate::connection::Connection;
use crate::exit::{Exit, Failure};
use crate::output::{self, Format};
use crate::process::{Signals, ended_by};

/// All that was found out.
struct Findings {
    url: String,
    namespace: Option<String>,
    limits: Limits,
    connected_in: Duration,
    samples: u32,
    latencies: Vec<Latency>,
    renewals: Renewals,
    /// How long the machine was suspended since it started, where that can be known.
    suspended: Option<Duration>,
}

pub(crate) async fn run(store: &StoreArguments, arguments: DoctorArguments) -> Result<Exit, Failure> {
    let mut signals = Signals::take()?;
    let clock = SystemClock::new();
    let began = clock.now();
    let connection = tokio::select! {
        biased;
        signal = signals.end() => return Ok(ended_by(signal)),
        connection = Connection::open(store) => connection?,
    };
    let connected_in = clock.now().since(began);
    let mut scratch = Scratch::new(&connection.client, &Random::from_os())?;
    let measured = measure(&mut scratch, arguments.samples, &mut signals).await;
    // However that ended, nothing is left in the store.
    let cleaned = tokio::select! {
        biased;
        signal = signals.end() => return Ok(ended_by(signal)),
        cleaned = scratch.clean_up() => cleaned,
    };
    let (latencies, renewals) = match measured {
        Err(exit) => return Ok(exit),
        Ok(measured) => measured?,
    };
    cleaned?;
    let is_well = renewals.are_in_time();
    let findings = Findings {
        url: connection.url.clone(),
        namespace: connection.namespace.clone(),
        limits: connection.client.kv().limits(),
        connected_in,
        samples: arguments.samples,
        latencies,
        renewals,
        suspended: clocks::suspended(),
    };
    match store.format() {
        Format::Json => output::json(&report::object(&findings))?,
        Format::Human => report::tables(&findings)?,
    }
    Ok(if is_well {
        Exit::OK
    } else {
        output::no("renewals are too slow for the ttl: what is held will be lost")
    })
}

/// Measures, or ends early by a signal. A write that was dropped could reach the store after all else was cleaned up there,
/// so what is under way is waited for; a second signal ends even that.
async fn measure(
    scratch: &mut Scratch<'_>,
    samples: u32,
    signals: &mut Signals,
) -> Result<quorate::kv::Result<(Vec<Latency>, Renewals)>, Exit> {
    let stop = AtomicBool::new(false);
    let mut measuring = pin!(scratch.measure(samples, &stop));
    let signal = tokio::select! {
        biased;
        signal = signals.end() => signal,
        measured = &mut measuring => return Ok(measured),
    };
    stop.store(true, Ordering::Relaxed);
    tokio::select! {
        biased;
        _ = signals.end() => {}
        _ = measuring => {}
    }
    Err(ended_by(signal))
}
