//! What the URL of a store says of its servers, as options.

use std::time::Duration;

use super::options::{Credentials, Kind, RedisOptions, Replicas, read};
use super::tls::Tls;
use crate::connect::StoreUrl;
use crate::kv::{Error, Result};

impl RedisOptions {
    /// What a URL says, such as `rediss://user:password@host:6379?ca=/etc/redis/ca.pem`. Its schemes are `redis`, `rediss`
    /// (with TLS), `redis+sentinel` and `redis+cluster`; its options `ca`, `cert` and `key` (files), `tls=true`,
    /// `server_name`, `db`, `tag`, `timeout`, `try_timeout` and `connect_timeout`; with replicas also
    /// `unsafe_failover=ack`, `wait_replicas` and `wait_timeout`; and for sentinels `master`, `sentinel_user` and
    /// `sentinel_password`.
    pub fn from_url(mut url: StoreUrl) -> Result<Self> {
        if url.hosts().is_empty() || !url.path().is_empty() {
            let scheme = url.scheme();
            return Err(Error::invalid(format!("{url} should have the form {scheme}://HOST:PORT/NAMESPACE")));
        }
        let kind = match url.scheme() {
            "redis+sentinel" => Kind::Sentinel(url.take("master").ok_or_else(|| {
                Error::invalid(format!("{url} lacks master=NAME, as the sentinels call it"))
            })?),
            "redis+cluster" => Kind::Cluster,
            _ => Kind::One,
        };
        let mut options = Self::of(kind, url.hosts().iter().cloned());
        options.user = Credentials {
            name: url.user().filter(|name| !name.is_empty()).map(str::to_owned),
            password: url.password().map(str::to_owned),
        };
        if let Some(name) = options.user.name.as_deref().filter(|_| options.user.password.is_none()) {
            return Err(Error::invalid(format!("the store URL names the user {name:?} and no password")));
        }
        options.take_sentinel_user(&mut url)?;
        options.take_tls(&mut url)?;
        if let Some(number) = url.take("db") {
            let bad = |_| Error::invalid(format!("db {number:?} is no number of a database"));
            options.database = number.parse::<u32>().map_err(bad)?.into();
        }
        options.tag = url.take("tag").unwrap_or(options.tag);
        options.take_replicas(&mut url)?;
        let times = &mut options.times;
        for (option, time) in [
            ("timeout", &mut times.request),
            ("try_timeout", &mut times.attempt),
            ("connect_timeout", &mut times.connect),
        ] {
            *time = url.take_duration(option)?.unwrap_or(*time);
        }
        url.finish()?;
        Ok(options)
    }

    fn take_sentinel_user(&mut self, url: &mut StoreUrl) -> Result<()> {
        let name = url.take("sentinel_user");
        self.sentinel_user = match url.take("sentinel_password") {
            Some(password) => Some(Credentials { name, password: Some(password) }),
            None if name.is_some() => {
                return Err(Error::invalid("the store URL names a sentinel_user and no sentinel_password"));
            }
            None => None,
        };
        Ok(())
    }

    fn take_tls(&mut self, url: &mut StoreUrl) -> Result<()> {
        let asked = match url.take("tls").as_deref() {
            None => url.scheme() == "rediss",
            Some("true" | "") => true,
            Some("false") if url.scheme() != "rediss" => false,
            Some(other) => return Err(Error::invalid(format!("tls {other:?} does not fit {url}"))),
        };
        let mut tls = Tls::default();
        if let Some(path) = url.take("ca") {
            tls.ca = Some(read("certificate authority", path.as_ref())?);
        }
        tls.identity = match (url.take("cert"), url.take("key")) {
            (Some(certificate), Some(key)) => {
                Some((read("client certificate", certificate.as_ref())?, read("client key", key.as_ref())?))
            }
            (None, None) => None,
            _ => return Err(Error::invalid("the store URL names one of cert and key, and not the other")),
        };
        tls.server_name = url.take("server_name");
        let settings = tls.ca.is_some() || tls.identity.is_some() || tls.server_name.is_some();
        if settings && !asked {
            return Err(Error::invalid(format!("{url} has settings for TLS, but is without: rediss://")));
        }
        self.tls = asked.then_some(tls);
        Ok(())
    }

    fn take_replicas(&mut self, url: &mut StoreUrl) -> Result<()> {
        self.acknowledged = match url.take("unsafe_failover").as_deref() {
            None => false,
            Some("ack") => true,
            Some(other) => return Err(Error::invalid(format!("unsafe_failover {other:?} is not ack"))),
        };
        let within = url.take_duration("wait_timeout")?;
        if let Some(number) = url.take("wait_replicas") {
            let count = number.parse().ok().filter(|count| *count > 0);
            let count = count.ok_or_else(|| {
                Error::invalid(format!("wait_replicas {number:?} is no number of replicas"))
            })?;
            self.replicas = Some(Replicas { count, within: within.unwrap_or(Duration::from_secs(1)) });
        } else if within.is_some() {
            return Err(Error::invalid("wait_timeout means nothing without wait_replicas"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str) -> Result<RedisOptions> {
        let options = RedisOptions::from_url(StoreUrl::parse(url).unwrap())?;
        options.validate().map(|()| options)
    }

    #[test]
    fn a_url_says_it_all() {
        let options =
            of("redis://me:secret@[::1]/?db=3&tag=t&timeout=7s&try_timeout=2s&connect_timeout=300ms")
                .unwrap();
        assert_eq!(options.addresses(), ["[::1]:6379"]);
        assert_eq!((options.database, &*options.tag), (3, "t"));
        assert_eq!(options.times.request, Duration::from_secs(7));
        assert_eq!(options.times.connect, Duration::from_millis(300));
        assert!(!format!("{options:?}").contains("secret"));
        assert!(of("rediss://h").unwrap().tls.is_some());
        let options = of("redis://:secret@h:1").unwrap();
        assert_eq!((options.user.name, options.user.password.as_deref()), (None, Some("secret")));
        let url = "redis+sentinel://a,b:1?master=m&unsafe_failover=ack&sentinel_password=p&wait_replicas=1";
        let options = of(url).unwrap();
        assert_eq!(options.addresses(), ["a:26379", "b:1"]);
        assert_eq!(options.replicas.unwrap().count, 1);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (url, named) in [
            ("redis:h", "redis://HOST"),
            ("redis://a,b", "redis+sentinel"),
            ("redis://me@h", "no password"),
            ("redis://h?tls=perhaps", "perhaps"),
            ("rediss://h?tls=false", "false"),
            ("redis://h?ca=/dev/null", "rediss://"),
            ("rediss://h?cert=/x", "cert and key"),
            ("rediss://h?ca=/nowhere/ca.pem", "authority /nowhere/ca.pem"),
            ("redis://h?timeout=soon", "timeout"),
            ("redis://h?colour=red", "colour"),
            ("redis://h?db=x", "db"),
            ("redis://h?tag=%7Bx", "tag"),
            ("redis://h?sentinel_password=x", "sentinels"),
            ("redis://h?wait_replicas=0", "wait_replicas"),
            ("redis://h?wait_timeout=1s", "wait_replicas"),
            ("redis://h?wait_replicas=1&wait_timeout=2s", "try_timeout"),
            ("redis+sentinel://h?unsafe_failover=ack", "master"),
            ("redis+sentinel://h?master=m", "unsafe_failover=ack"),
            ("redis+cluster://h", "unsafe_failover=ack"),
            ("redis+cluster://h?unsafe_failover=yes", "yes"),
            ("redis+cluster://h?unsafe_failover=ack&db=1", "database"),
        ] {
            let error = of(url).unwrap_err().to_string();
            assert!(error.contains(named), "{url}: {error}");
        }
    }
}
