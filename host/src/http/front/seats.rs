//! How many connections there may be at a time, and which one goes when there are more.
//!
//! Owns the count, over all and for each address. Where all seats are taken, those on which nothing is in
//! flight lose them: first those that never had an answer, the oldest of them first. So a client that opens
//! connections and sends nothing, or very slowly, cannot keep others out. Who has only just come, whose first
//! request may be on its way, goes last. A request in flight never loses its seat, unless anybody may ask for it
//! or it merely waits: health, and streams without messages.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::in_flight::InFlight;

/// Of so many seats one goes at a time when all are taken, so that the search is not made for each.
const SHARE: usize = 64;
/// How often whoever waits for a seat looks for a connection that has become idle.
const TICK: Duration = Duration::from_millis(100);
/// How long a connection counts as one that has only just come.
const NEW: Duration = Duration::from_millis(250);

/// The seats of one listener. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Seats(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    most_per_address: usize,
    taken: Mutex<Taken>,
    /// Told when a seat is free again.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// In the order in which they were taken.
    seats: BTreeMap<u64, Occupant>,
    by_address: HashMap<IpAddr, usize>,
}

/// Who has a seat.
#[derive(Debug)]
struct Occupant {
    since: Instant,
    in_flight: InFlight,
}

/// In which order those on whose connection nothing is in flight lose their seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// It never asked for anything.
    Mute,
    /// It had an answer, and may ask again.
    Served,
    /// It has only just come.
    New,
}

impl Occupant {
    /// Whether it was told to go and nothing keeps it. One whose request came at that moment stays for it.
    fn goes(&self) -> bool {
        self.in_flight.has_ended() && !self.in_flight.holds_seat()
    }

    /// None if it cannot lose its seat, or has been told already.
    fn claim(&self, now: Instant) -> Option<Claim> {
        if self.in_flight.holds_seat() || self.in_flight.has_ended() {
            return None;
        }
        Some(match self.in_flight.answered() {
            0 if now - self.since < NEW => Claim::New,
            0 => Claim::Mute,
            _ => Claim::Served,
        })
    }
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyOfOneAddress;

impl Seats {
    /// `most_per_address` of 0 is no limit.
    pub(super) fn new(most: usize, most_per_address: usize) -> Self {
        let (taken, freed) = (Mutex::default(), Notify::new());
        Self(Arc::new(Inner { most, most_per_address, taken, freed }))
    }

    /// Takes a seat, or waits for one. Those that have to go for it do so for `reason`.
    ///
    /// # Errors
    /// The address has as many as it may have.
    pub(super) async fn take(
        &self,
        address: IpAddr,
        in_flight: &InFlight,
        reason: &'static str,
    ) -> Result<Seat, TooManyOfOneAddress> {
        let address = network(address);
        loop {
            let freed = self.0.freed.notified();
            if let Some(taken) = self.try_take(address, in_flight, reason) {
                return taken;
            }
            // Nobody tells when the last request on a connection has ended: that is looked for.
            let _told = tokio::time::timeout(TICK, freed).await;
        }
    }

    fn try_take(
        &self,
        address: IpAddr,
        in_flight: &InFlight,
        reason: &'static str,
    ) -> Option<Result<Seat, TooManyOfOneAddress>> {
        let mut taken = self.taken();
        let here = taken.by_address.get(&address).copied().unwrap_or(0);
        if self.0.most_per_address > 0 && here >= self.0.most_per_address {
            return Some(Err(TooManyOfOneAddress));
        }
        if taken.seats.len() >= self.0.most {
            // No more are sent away than have to go, however long they take: on a busy machine those that come
            // would else send each other away.
            if !taken.seats.values().any(Occupant::goes) {
                taken.make_room(1 + self.0.most / SHARE, reason);
            }
            return None;
        }
        let number = taken.next;
        taken.next += 1;
        taken.seats.insert(number, Occupant { since: Instant::now(), in_flight: in_flight.clone() });
        *taken.by_address.entry(address).or_default() += 1;
        Some(Ok(Seat { seats: self.clone(), number, address }))
    }

    /// Tells all connections to end in order.
    pub(super) fn retire(&self) {
        for one in self.taken().seats.values() {
            one.in_flight.retire();
        }
    }

    /// Completes once all seats are free.
    pub(super) async fn empty(&self) {
        loop {
            let freed = self.0.freed.notified();
            if self.taken().seats.is_empty() {
                return;
            }
            freed.await;
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// Tells so many to go, if there are as many that can.
    fn make_room(&self, count: usize, reason: &'static str) {
        let now = Instant::now();
        let mut idle: Vec<_> =
            self.seats.values().filter_map(|one| Some((one.claim(now)?, &one.in_flight))).collect();
        // The sort is stable: of one claim, the oldest first.
        idle.sort_by_key(|(claim, _)| *claim);
        for (_, one) in idle.into_iter().take(count) {
            one.end(reason);
        }
    }
}

/// A seat that is taken until this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    number: u64,
    address: IpAddr,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.taken();
        taken.seats.remove(&self.number);
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
        drop(taken);
        self.seats.0.freed.notify_one();
    }
}

/// What counts as one address: of IPv6 it is a network of 64 bits, which one client has to itself.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::super::held::Held;
    use super::super::in_flight::GuardedBody;
    use super::super::lasting::Lasting;
    use super::*;

    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    async fn take(seats: &Seats, in_flight: &InFlight) -> Option<Seat> {
        let taken = tokio::time::timeout(Duration::from_secs(1), seats.take(HOME, in_flight, "test")).await;
        taken.ok().map(Result::unwrap)
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_taken_the_oldest_that_is_idle_goes_and_a_request_never_does() {
        let seats = Seats::new(3, 0);
        let all: [InFlight; 3] = std::array::from_fn(|_| InFlight::default());
        let mut taken = Vec::new();
        for one in &all {
            taken.push(take(&seats, one).await.unwrap());
        }
        tokio::time::advance(NEW).await;
        let request = all[0].begin();
        let late = InFlight::default();
        assert!(take(&seats, &late).await.is_none(), "it waits until the seat is given up");
        assert_eq!(all.each_ref().map(InFlight::has_ended), [false, true, false]);
        assert_eq!(all[1].reason(), Some("test"));
        drop(taken.remove(1));
        let fourth = take(&seats, &late).await.unwrap();
        let (second, third) = (all[2].begin(), late.begin());
        assert!(take(&seats, &InFlight::default()).await.is_none(), "all have a request");
        assert!(!all[0].has_ended() && !all[2].has_ended() && !late.has_ended());
        drop((request, second, third, taken, fourth));
        tokio::time::timeout(Duration::from_secs(1), seats.empty()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_the_seat_of_whoever_becomes_idle_later_and_of_nobody_else() {
        let seats = Seats::new(3, 0);
        let all: [InFlight; 3] = std::array::from_fn(|_| InFlight::default());
        let mut taken = Vec::new();
        for one in &all {
            taken.push(Some(take(&seats, one).await.unwrap()));
        }
        let mut requests: Vec<_> = all.iter().map(InFlight::begin).collect();
        let late = InFlight::default();
        let end = async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            requests.clear();
            while !all.iter().any(InFlight::has_ended) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // It takes its time to go; nobody else is sent away for that.
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(all.each_ref().map(InFlight::has_ended), [true, false, false]);
            taken[0] = None;
        };
        let (seat, ()) = tokio::join!(seats.take(HOME, &late, "test"), end);
        assert!(seat.is_ok());
        assert_eq!(all.each_ref().map(InFlight::has_ended), [true, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_told_to_go_and_has_a_request_after_all_keeps_nobody_else_on_their_seats() {
        let seats = Seats::new(2, 0);
        let (quick, idle, late) = (InFlight::default(), InFlight::default(), InFlight::default());
        let _quick_seat = take(&seats, &quick).await.unwrap();
        let mut idle_seat = Some(take(&seats, &idle).await.unwrap());
        quick.end("test");
        let _request = quick.begin();
        let leave = async {
            while !idle.has_ended() {
                tokio::time::sleep(TICK).await;
            }
            idle_seat = None;
        };
        let (seat, ()) = tokio::join!(take(&seats, &late), leave);
        assert!(seat.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_sends_no_more_away_than_it_needs() {
        let seats = Seats::new(200, 0);
        let all: Vec<InFlight> = (0..200).map(|_| InFlight::default()).collect();
        let mut taken = Vec::new();
        for one in &all {
            taken.push(Some(take(&seats, one).await.unwrap()));
        }
        let gone = || all.iter().filter(|one| one.has_ended()).count();
        for _ in 0..100 {
            assert!(take(&seats, &InFlight::default()).await.is_none(), "nobody has gone yet");
        }
        assert_eq!(gone(), 1 + 200 / SHARE);
        taken[0] = None;
        let _seat = take(&seats, &InFlight::default()).await.unwrap();
        assert!(take(&seats, &InFlight::default()).await.is_none());
        assert_eq!(gone(), 1 + 200 / SHARE, "the others of them are still to go");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_only_just_come_goes_after_one_that_was_served() {
        let seats = Seats::new(3, 0);
        let (mute, served, new) = (InFlight::default(), InFlight::default(), InFlight::default());
        let mut taken = vec![take(&seats, &mute).await.unwrap()];
        taken.push(take(&seats, &served).await.unwrap());
        drop(GuardedBody::new(Body::empty(), 1, served.begin(), Held::default()));
        assert_eq!(served.answered(), 1);
        tokio::time::advance(NEW).await;
        taken.push(take(&seats, &new).await.unwrap());
        let ended = || [&mute, &served, &new].map(InFlight::has_ended);
        for expected in [[true, false, false], [true, true, false], [true, true, true]] {
            seats.taken().make_room(1, "test");
            assert_eq!(ended(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_merely_waits_or_asks_what_anybody_may_goes_too() {
        let seats = Seats::new(3, 0);
        let all: [InFlight; 3] = std::array::from_fn(|_| InFlight::default());
        let mut taken = Vec::new();
        for one in &all {
            taken.push(take(&seats, one).await.unwrap());
        }
        let mut requests = all.each_ref().map(InFlight::begin);
        requests[0].is_open_to_all();
        let call = Lasting::default();
        requests[1].lasts(call.clone());
        let work = call.work();
        assert!(take(&seats, &InFlight::default()).await.is_none());
        assert_eq!(all.each_ref().map(InFlight::has_ended), [true, false, false], "a stream at work stays");
        // Its seat goes to one that has a request.
        drop(taken.remove(0));
        let busy = InFlight::default();
        let _busy = (busy.begin(), take(&seats, &busy).await.unwrap());
        drop(work);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(take(&seats, &InFlight::default()).await.is_none());
        assert_eq!(all.each_ref().map(InFlight::has_ended), [true, true, false], "one that waits does not");
        assert!(all.iter().all(InFlight::any), "all are in flight all the same");
        drop(requests);
        assert!(!all.iter().any(|one| one.any() || one.holds_seat()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_so_many_and_a_network_of_ipv6_is_one() {
        let seats = Seats::new(100, 2);
        let in_flight = InFlight::default();
        let at = |text: &str| text.parse::<IpAddr>().unwrap();
        let first = seats.take(at("2001:db8::1"), &in_flight, "test").await.unwrap();
        let _second = seats.take(at("2001:db8::ffff:2"), &in_flight, "test").await.unwrap();
        assert_eq!(seats.take(at("2001:db8::3"), &in_flight, "test").await.unwrap_err(), TooManyOfOneAddress);
        let _other = seats.take(at("2001:db8:0:1::1"), &in_flight, "test").await.unwrap();
        let _v4 = seats.take(at("10.0.0.1"), &in_flight, "test").await.unwrap();
        let _mapped = seats.take(at("::ffff:10.0.0.1"), &in_flight, "test").await.unwrap();
        assert!(seats.take(at("10.0.0.1"), &in_flight, "test").await.is_err());
        drop(first);
        assert!(seats.take(at("2001:db8::3"), &in_flight, "test").await.is_ok());
        assert_eq!(seats.taken().by_address.len(), 3);
    }
}
