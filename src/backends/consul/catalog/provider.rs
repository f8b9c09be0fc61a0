//! Services of Consul's own catalog, whoever put them there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::forms::Told;
use crate::backends::consul::BACKEND;
use crate::backends::consul::endpoints::{Endpoints, Kind, no_other};
use crate::backends::consul::http::{Ask, Lane};
use crate::discovery::{Instance, Provider, Update};
use crate::kv::Result;

/// How long a query waits for a change before it is asked anew.
const WAIT: Duration = Duration::from_secs(5);

/// The pause after one that failed.
const PAUSE: Duration = Duration::from_millis(200);

/// The instances of one service in Consul's own catalog, with their health, as any of its clients registered them.
///
/// It is told of changes, by one blocking query. An instance is as well as the worst of its checks and of its node's.
///
/// ```no_run
/// use quorate::backends::{Consul, ConsulOptions};
/// use quorate::discovery::{Members, RoundRobin};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate::kv::Result<()> {
/// let consul = Consul::connect(ConsulOptions::new(["localhost:8500"])).await?;
/// let web = Members::new(consul.catalog("web"))?;
/// web.ready().await;
/// let next = web.pick(&RoundRobin::new()).map(|instance| instance.address.clone());
/// # let _ = next;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct ConsulCatalog {
    endpoints: Arc<Endpoints>,
    service: String,
}

impl ConsulCatalog {
    pub(in crate::backends::consul) fn new(endpoints: &Arc<Endpoints>, service: &str) -> Self {
        Self { endpoints: Arc::clone(endpoints), service: service.to_owned() }
    }

    /// What there is, and its index; once that is newer than `since`, or after a while.
    async fn look(&self, since: u64) -> Result<(u64, Vec<Instance>)> {
        let service = utf8_percent_encode(&self.service, NON_ALPHANUMERIC);
        let ask = Ask::get(format!("/v1/health/service/{service}"), "");
        let ask = match since {
            0 => ask,
            since => ask
                .with("index", &since.to_string())
                .with("wait", &format!("{}s", WAIT.as_secs()))
                .on(Lane::Long(WAIT + WAIT / 16)),
        };
        let answer = self.endpoints.call(Kind::Repeatable, "catalog", ask, no_other).await?;
        let told: Vec<Told> = answer.read().map_err(|error| error.at(BACKEND, "catalog"))?;
        Ok((answer.index.unwrap_or_default().max(1), told.into_iter().map(Told::instance).collect()))
    }

    async fn next(&self, since: &mut u64) -> Result<Update> {
        let (index, instances) = self.look(*since).await.inspect_err(|_| *since = 0)?;
        let is_new = index != *since;
        // A store that went back in time is asked from its beginning.
        *since = if index < *since { 0 } else { index };
        Ok(if is_new { Update::Reset(instances) } else { Update::Confirm })
    }
}

impl Provider for ConsulCatalog {
    fn updates(&self) -> BoxStream<'static, Result<Update>> {
        let state = (self.clone(), 0, false);
        futures_util::stream::unfold(state, |(catalog, mut since, failed)| async move {
            if failed {
                tokio::time::sleep(PAUSE).await;
            }
            let update = catalog.next(&mut since).await;
            let failed = update.is_err();
            Some((update, (catalog, since, failed)))
        })
        .boxed()
    }
}

impl fmt::Debug for ConsulCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsulCatalog").field("service", &self.service).finish_non_exhaustive()
    }
}
