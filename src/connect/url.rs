//! Store URLs: `scheme://user:password@host1:port,host2:port/namespace?option=value`, or `scheme:path?option=value`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::kv::{Error, Result};

/// Options whose values are secrets.
const SECRETS: [&str; 2] = ["password", "token"];

/// What must be encoded in a path.
pub(super) const ESCAPED: percent_encoding::AsciiSet =
    percent_encoding::CONTROLS.add(b'%').add(b'?').add(b' ');

/// A store URL, taken apart. Neither `Display` nor `Debug` shows the password or the value of any option.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreUrl {
    scheme: String,
    user: Option<String>,
    password: Option<String>,
    hosts: Vec<String>,
    path: String,
    /// Whether hosts may stand in it, as after `//`.
    hierarchical: bool,
    options: BTreeMap<String, String>,
    with_session: bool,
}

impl StoreUrl {
    /// Takes a URL apart. Everything but the hosts may be percent-encoded.
    pub fn parse(text: &str) -> Result<Self> {
        let (scheme, rest) = text.split_once(':').ok_or_else(|| {
            Error::invalid("the store URL has no scheme; it looks like embedded:PATH or etcd://host:2379")
        })?;
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
        if !scheme.starts_with(|c: char| c.is_ascii_lowercase()) || !scheme.chars().all(valid) {
            return Err(Error::invalid(format!("{scheme:?} is no URL scheme")));
        }
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
        let mut url = Self {
            scheme: scheme.to_owned(),
            user: None,
            password: None,
            hosts: Vec::new(),
            path: String::new(),
            hierarchical: false,
            options: options(query)?,
            with_session: false,
        };
        match rest.strip_prefix("//") {
            Some(rest) => {
                let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
                // What was taken for a host may be part of a password then, and is neither to be shown nor asked for.
                let goes_on = path.contains('@') || url.options.keys().any(|name| name.contains('@'));
                if goes_on && authority.contains('@') {
                    return Err(malformed_host());
                }
                let cut_short = !authority.contains('@') && text.contains('@');
                url.authority(authority).map_err(|error| if cut_short { malformed_host() } else { error })?;
                // Without hosts it is a file, as in `embedded:///var/lib/app.db`, and its path is absolute.
                let path = if authority.is_empty() { rest } else { path };
                url.path = decode("path", path)?;
                url.hierarchical = !authority.is_empty();
            }
            None => url.path = decode("path", rest)?,
        }
        Ok(url)
    }

    fn authority(&mut self, authority: &str) -> Result<()> {
        let (credentials, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(user, hosts)| (Some(user), hosts));
        if let Some(credentials) = credentials {
            let (user, password) =
                credentials.split_once(':').map_or((credentials, None), |(u, p)| (u, Some(p)));
            self.user = Some(decode("user", user)?);
            self.password = password.map(|password| decode("password", password)).transpose()?;
        }
        if hosts.is_empty() {
            return if credentials.is_some() {
                Err(Error::invalid("the store URL names no host"))
            } else {
                Ok(())
            };
        }
        for host in hosts.split(',') {
            check_host(host)?;
            self.hosts.push(host.to_owned());
        }
        Ok(())
    }

    /// What stands before the first `:`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The user, if any.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password, if any. Do not print it.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// Sets the password, so that it need not stand in the text. Refused where there is no user for it, or one stands
    /// there already.
    pub fn set_password(&mut self, password: impl Into<String>) -> Result<()> {
        match (&self.user, &self.password) {
            (None, _) => Err(Error::invalid(format!("a password was given, but {self} names no user"))),
            (_, Some(_)) => Err(Error::invalid(format!("a password was given, but {self} has one already"))),
            _ => {
                self.password = Some(password.into());
                Ok(())
            }
        }
    }

    /// Promises that the first thing asked of the store is a session, so that nothing need be asked before it.
    pub(crate) fn promise_session(&mut self) {
        self.with_session = true;
    }

    /// Whether that was promised.
    #[cfg(feature = "etcd")]
    pub(crate) fn is_with_session(&self) -> bool {
        self.with_session
    }

    /// The same place without the password and the token: a URL that may be handed on, to be used with them again.
    #[must_use]
    pub fn without_secrets(&self) -> String {
        let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let user = self.user.as_deref().map(|user| escaped(user) + "@").unwrap_or_default();
        let hosts =
            if self.hierarchical { format!("//{user}{}/", self.hosts.join(",")) } else { String::new() };
        let path = utf8_percent_encode(&self.path, &ESCAPED);
        let open = self.options.iter().filter(|(name, _)| !SECRETS.contains(&name.as_str()));
        let options: Vec<_> =
            open.map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
        let query = if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) };
        format!("{}:{hosts}{path}{query}", self.scheme)
    }

    /// The hosts, each with its port if it has one; IPv6 addresses stand in brackets.
    #[must_use]
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// The path, decoded; without hosts, all that stands between `:` and `?`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Takes an option out, so that [`finish`](Self::finish) does not refuse it.
    pub fn take(&mut self, option: &str) -> Option<String> {
        self.options.remove(option)
    }

    /// Takes an option out and reads it as a time, such as `500ms`, `10s`, `2m` or `1h`.
    pub fn take_duration(&mut self, option: &str) -> Result<Option<Duration>> {
        let text = self.take(option);
        text.map(|text| parse_duration(option, &text)).transpose()
    }

    /// The namespace: the path after hosts, or the option of that name.
    pub(crate) fn take_namespace(&mut self) -> Result<String> {
        let path = if self.hierarchical { std::mem::take(&mut self.path) } else { String::new() };
        match self.take("namespace") {
            None => Ok(path),
            Some(option) if path.is_empty() => Ok(option),
            Some(option) => {
                Err(Error::invalid(format!("the store URL names two namespaces, {path:?} and {option:?}")))
            }
        }
    }

    /// Refuses what is left: options that nobody took.
    pub fn finish(self) -> Result<()> {
        match self.options.keys().next() {
            None => Ok(()),
            Some(option) => Err(Error::invalid(format!(
                "unknown option {option:?} for a store of scheme {:?}",
                self.scheme
            ))),
        }
    }

    /// The same for a store without hosts; `form` says how its URL looks.
    pub(crate) fn finish_opaque(self, form: &str, pathless: bool) -> Result<()> {
        if self.hierarchical || self.path.is_empty() != pathless {
            return Err(Error::invalid(format!("{self} should have the form {form}")));
        }
        self.finish()
    }
}

fn options(query: &str) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode("option", name)?;
        let value = decode(&name, value)?;
        if options.insert(name.clone(), value).is_some() {
            return Err(Error::invalid(format!("the store URL has the option {name:?} twice")));
        }
    }
    Ok(options)
}

fn malformed_host() -> Error {
    Error::invalid(
        "the store URL has a malformed host; or its password has a '/', '?' or '@', which must be percent-encoded",
    )
}

fn check_host(host: &str) -> Result<()> {
    let bad = |why: &str| Err(Error::invalid(format!("host {host:?} in the store URL {why}")));
    let port = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => port,
            _ => return bad("is no IPv6 address in brackets"),
        },
        None => &host[host.find(':').unwrap_or(host.len())..],
    };
    if host.is_empty() || host.starts_with(':') {
        return bad("has no name");
    }
    match port.strip_prefix(':') {
        Some(number) if number.parse::<u16>().is_ok_and(|number| number > 0) => Ok(()),
        None if port.is_empty() => Ok(()),
        _ => bad("has no valid port"),
    }
}

fn decode(part: &str, text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded
        .map_err(|_| Error::invalid(format!("the {part} in the store URL is not UTF-8 once decoded")))?;
    Ok(decoded.into_owned())
}

/// Reads a time as options of a URL give it: `500ms`, `10s`, `2m`, `1h`; `what` names it in the error.
pub fn parse_duration(what: &str, text: &str) -> Result<Duration> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(millis)
        .and_then(|(number, millis)| number.checked_mul(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| Error::invalid(format!("{what} {text:?} is no time such as 500ms, 10s, 2m or 1h")))
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme)?;
        if self.hierarchical {
            write!(f, "//")?;
            if let Some(user) = &self.user {
                write!(f, "{user}{}@", if self.password.is_some() { ":***" } else { "" })?;
            }
            write!(f, "{}/", self.hosts.join(","))?;
        }
        match self.path.rsplit_once('@') {
            // A URL that lacks its slashes: what stands there is a password more likely than a file.
            Some((_, rest)) if !self.hierarchical => write!(f, "***@{rest}")?,
            _ => write!(f, "{}", self.path)?,
        }
        for (nth, option) in self.options.keys().enumerate() {
            write!(f, "{}{option}=***", if nth == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_url_apart() {
        let mut url =
            StoreUrl::parse("etcd://us%40r:p%3Aw@h1:2379,[::1]:2380,h3/team/app?ttl=10s&ca=%2Fa%20b")
                .unwrap();
        assert_eq!((url.scheme(), url.user(), url.password()), ("etcd", Some("us@r"), Some("p:w")));
        assert_eq!(url.hosts(), ["h1:2379", "[::1]:2380", "h3"]);
        assert_eq!(url.take_duration("ttl").unwrap(), Some(Duration::from_secs(10)));
        assert_eq!(url.take("ca").as_deref(), Some("/a b"));
        assert_eq!(url.take_namespace().unwrap(), "team/app");
        url.finish().unwrap();
    }

    #[test]
    fn files_have_no_hosts() {
        for (text, path) in [
            ("embedded:/var/lib/app.db", "/var/lib/app.db"),
            ("embedded:app.db?namespace=a", "app.db"),
            ("embedded:///var/lib/app.db", "/var/lib/app.db"),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            assert_eq!(url.path(), path);
            assert!(url.hosts().is_empty());
        }
    }

    #[test]
    fn never_shows_a_secret() {
        let url = StoreUrl::parse("redis://me:secret@h:1/ns?token=secret").unwrap();
        for shown in [url.to_string(), format!("{url:?}"), url.finish().unwrap_err().to_string()] {
            assert!(!shown.contains("secret"), "{shown}");
        }
        // Also not in URLs that are not what they were meant to be.
        let slashless = StoreUrl::parse("redis:me:secret@h:1").unwrap().to_string();
        assert_eq!(slashless, "redis:***@h:1");
        for unescaped in [
            "redis://me:secret/b@h:1/ns",
            "redis://me:secret?b@h:1",
            "redis://me:a@secret/b@h:1/ns",
            "redis://me:a@secret?b@h:1",
            "redis://me:a@secret:b/c@h:1",
            "redis://me:a@h/secret@h:1",
            "redis://me:a@h?secret@h:1",
        ] {
            let error = StoreUrl::parse(unescaped).unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains("percent-encoded"), "{error}");
        }
    }

    #[test]
    fn hands_on_all_but_the_secrets() {
        for (whole, open) in [
            (
                "etcd://us%40r:p%3Aw@h1:2379,h2/a%20b?token=t&ca=%2Fa%20b&ttl=10s",
                "etcd://us%40r@h1:2379,h2/a%20b?ca=%2Fa%20b&ttl=10s",
            ),
            ("embedded:/a b?namespace=x", "embedded:/a%20b?namespace=x"),
            ("memory:", "memory:"),
        ] {
            let open_url = StoreUrl::parse(whole).unwrap().without_secrets();
            assert_eq!(open_url, open);
            assert_eq!(StoreUrl::parse(&open_url).unwrap().without_secrets(), open);
        }
        let mut url = StoreUrl::parse("etcd://me@h/ns").unwrap();
        url.set_password("secret").unwrap();
        assert_eq!(url.password(), Some("secret"));
        for refused in ["etcd://h", "etcd://me:other@h"] {
            let error = StoreUrl::parse(refused).unwrap().set_password("secret").unwrap_err().to_string();
            assert!(!error.contains("secret") && error.contains("password"), "{error}");
        }
    }

    #[test]
    fn names_what_is_malformed() {
        for (text, named) in [
            ("nonsense", "scheme"),
            ("Http://x", "\"Http\""),
            ("etcd://h:99999", "h:99999"),
            ("etcd://h1,,h2", "\"\""),
            ("etcd://u:secret@", "no host"),
            ("etcd://[::g]:1", "[::g]:1"),
            ("etcd://h?a=1&a=2", "\"a\" twice"),
            ("etcd://h/%ff", "path"),
        ] {
            let error = StoreUrl::parse(text).unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains("secret"), "{text}: {error}");
        }
        for bad in ["", "10", "s", "1d", "-1s", "99999999999999999999s"] {
            assert!(parse_duration("ttl", bad).unwrap_err().to_string().contains("ttl"), "{bad}");
        }
        let twice = StoreUrl::parse("etcd://h/a?namespace=b").unwrap().take_namespace().unwrap_err();
        assert!(twice.to_string().contains("two namespaces"));
    }
}
