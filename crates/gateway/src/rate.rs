//! How many requests one address may send: a token bucket each, so that one client's loop does not take the node from
//! all others.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, StatusCode, header::RETRY_AFTER},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _, clock::DefaultClock,
};
use stele_fhir::outcome::IssueCode;

use crate::{front::Front, problem::Problem};

/// The buckets of all addresses.
pub(crate) struct Rates {
    buckets: Option<DefaultKeyedRateLimiter<IpAddr>>,
    since_cleaning: AtomicU32,
}

impl Rates {
    /// Buckets that hold `burst` requests and gain `per_second` of them; no limit when either is 0.
    pub(crate) fn new(per_second: u32, burst: u32) -> Self {
        let quota = NonZeroU32::new(per_second)
            .zip(NonZeroU32::new(burst))
            .map(|(per_second, burst)| Quota::per_second(per_second).allow_burst(burst));
        Self {
            buckets: quota.map(RateLimiter::keyed),
            since_cleaning: AtomicU32::new(0),
        }
    }

    /// Takes one request from an address's bucket; if it is empty, the seconds until it is not.
    fn take(&self, address: IpAddr) -> Result<(), u64> {
        let Some(buckets) = &self.buckets else {
            return Ok(());
        };
        // Full buckets are those of addresses that stopped asking: they need not be remembered.
        if self.since_cleaning.fetch_add(1, Ordering::Relaxed) >= CLEANING_EVERY {
            self.since_cleaning.store(0, Ordering::Relaxed);
            buckets.retain_recent();
        }
        buckets.check_key(&bucket_of(address)).map_err(|refused| {
            let wait = refused.wait_time_from(DefaultClock::default().now());
            wait.as_secs().saturating_add(1)
        })
    }
}

/// Refuses with 429 what is over the limit of the address it comes from.
pub(crate) async fn limit(
    State(front): State<Arc<Front>>,
    request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let address = peer.and_then(|ConnectInfo(peer)| sender(peer.ip(), request.headers()));
    if let Some(address) = address
        && let Err(seconds) = front.rates.take(address)
    {
        return Problem::one(
            StatusCode::TOO_MANY_REQUESTS,
            IssueCode::Throttled,
            "too many requests from this address; slow down",
        )
        .with(RETRY_AFTER, &seconds.to_string())
        .into_response();
    }
    next.run(request).await
}

/// Whose bucket a request is taken from. A reverse proxy on this machine says for whom it asks, in the last entry of
/// `X-Forwarded-For`; other programs on this machine are the operator's own and have no limit.
fn sender(peer: IpAddr, headers: &HeaderMap) -> Option<IpAddr> {
    let peer = peer.to_canonical();
    if !peer.is_loopback() {
        return Some(peer);
    }
    let forwarded = headers.get_all(FORWARDED_FOR).iter().next_back()?;
    let last = forwarded.to_str().ok()?.rsplit(',').next()?.trim();
    Some(last.parse::<IpAddr>().ok()?.to_canonical())
}

/// One household or one cloud machine has a whole /64 of IPv6 addresses.
fn bucket_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

const FORWARDED_FOR: &str = "x-forwarded-for";
/// Requests between two looks for buckets that can be forgotten.
const CLEANING_EVERY: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// NFR-SEC7: an address that asks too much is refused, another one is not.
    #[test]
    fn every_address_has_a_bucket_of_its_own() {
        let rates = Rates::new(1, 3);
        for _ in 0..3 {
            assert_eq!(rates.take(address("192.0.2.1")), Ok(()));
        }
        let wait = rates.take(address("192.0.2.1")).expect_err("it is empty");
        assert!((1..=2).contains(&wait), "{wait}");
        assert_eq!(rates.take(address("192.0.2.2")), Ok(()));
        for n in 0..3 {
            assert_eq!(rates.take(address(&format!("2001:db8::{n}"))), Ok(()));
        }
        assert!(
            rates.take(address("2001:db8::ffff")).is_err(),
            "the same /64"
        );
        assert_eq!(rates.take(address("2001:db8:0:1::1")), Ok(()));
        let off = Rates::new(0, 3);
        assert!((0..100).all(|_| off.take(address("192.0.2.1")).is_ok()));
    }

    #[test]
    fn only_this_machine_may_speak_for_others() {
        let mut headers = HeaderMap::new();
        assert_eq!(sender(address("127.0.0.1"), &headers), None);
        assert_eq!(sender(address("::ffff:127.0.0.1"), &headers), None);
        headers.append(
            FORWARDED_FOR,
            "198.51.100.1, 203.0.113.9".parse().expect("a value"),
        );
        assert_eq!(
            sender(address("127.0.0.1"), &headers),
            Some(address("203.0.113.9"))
        );
        assert_eq!(
            sender(address("192.0.2.1"), &headers),
            Some(address("192.0.2.1"))
        );
        headers.insert(FORWARDED_FOR, "unknown".parse().expect("a value"));
        assert_eq!(sender(address("::1"), &headers), None);
    }
}
