//! Messages between nodes, and word of keys that changed, over one connection of their own.
//!
//! Owns who listens to what, and that connection, which exists only while somebody listens. Redis keeps no message
//! for who is away, so everybody is told when some may have been missed; so is who does not take them fast enough.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{PushInfo, PushKind, Value};
use tokio::sync::Notify;

use super::breaker::longer;
use super::dial::Dial;

/// Events that wait for one listener; with more, it is told that it missed some.
const WAITING: usize = 1024;
/// How often the connection is asked whether it is still there.
const BEAT: Duration = Duration::from_secs(1);

/// What a listener hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It is connected, for the first time or again: what came before this was perhaps missed.
    Reconnected,
    /// A message; of a watched prefix, the key that changed, or nothing if the whole database was flushed.
    Message(Bytes),
}

/// What can be listened to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// Messages that are published on a channel.
    Channel(String),
    /// Changes of keys with this prefix, whoever makes them.
    Keys(String),
}

/// A listener's events, for as long as it is held.
#[derive(Debug)]
pub struct Subscription {
    mailbox: Arc<Mailbox>,
}

#[derive(Debug, Default)]
struct Mailbox {
    events: Mutex<VecDeque<Event>>,
    came: Notify,
}

impl Subscription {
    /// The next event. Waits for as long as there is none; may be dropped at any time without losing one.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = lock(&self.mailbox.events).pop_front() {
                return event;
            }
            self.mailbox.came.notified().await;
        }
    }
}

impl Mailbox {
    fn push(&self, event: Event) {
        let mut events = lock(&self.events);
        if events.len() >= WAITING {
            events.clear();
            events.push_back(Event::Reconnected);
        }
        events.push_back(event);
        drop(events);
        self.came.notify_one();
    }
}

/// Who listens to what.
#[derive(Debug, Default)]
pub(super) struct Messages {
    listeners: Mutex<BTreeMap<Topic, Vec<Weak<Mailbox>>>>,
    /// Somebody listens to something new.
    asked: Notify,
    /// The connection has ended.
    ended: Notify,
}

impl Messages {
    /// Listens from now on.
    pub(super) fn listen(&self, topic: Topic) -> Subscription {
        let mailbox = Arc::new(Mailbox::default());
        lock(&self.listeners).entry(topic).or_default().push(Arc::downgrade(&mailbox));
        self.asked.notify_one();
        Subscription { mailbox }
    }

    /// Listens for as long as it is polled.
    pub(super) async fn run(self: Arc<Self>, dial: Arc<Dial>) {
        let mut pause = Duration::ZERO;
        loop {
            if self.topics().is_empty() {
                self.asked.notified().await;
                continue;
            }
            let messages = Arc::downgrade(&self);
            let connecting = dial.server(move |push: PushInfo| {
                if let Some(messages) = messages.upgrade() {
                    messages.take(push);
                }
                Ok::<(), redis::aio::SendError>(())
            });
            if let Ok(connection) = connecting.await {
                let began = tokio::time::Instant::now();
                self.serve(connection).await;
                if began.elapsed() > BEAT * 5 {
                    pause = Duration::ZERO;
                }
            }
            pause = longer(pause);
            tokio::time::sleep(pause).await;
        }
    }

    /// Listens over this connection until it ends, or nobody listens any more.
    async fn serve(&self, mut connection: MultiplexedConnection) {
        let mut known = BTreeSet::new();
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let wanted = self.topics();
            if wanted.is_empty() || self.follow(&mut connection, &mut known, wanted).await.is_err() {
                return;
            }
            tokio::select! {
                () = self.ended.notified() => {
                    // It may be the end of the one before.
                    if redis::cmd("PING").exec_async(&mut connection).await.is_err() {
                        return;
                    }
                }
                () = self.asked.notified() => {}
                _ = beat.tick() => {
                    if redis::cmd("PING").exec_async(&mut connection).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Begins to listen to what is new, and ends with what nobody wants any more.
    async fn follow(
        &self,
        connection: &mut MultiplexedConnection,
        known: &mut BTreeSet<Topic>,
        wanted: BTreeSet<Topic>,
    ) -> redis::RedisResult<()> {
        for topic in wanted.difference(known) {
            match topic {
                Topic::Channel(name) => connection.subscribe(name).await?,
                Topic::Keys(prefix) => {
                    let mut tracking = redis::cmd("CLIENT");
                    tracking.arg("TRACKING").arg("ON").arg("BCAST").arg("PREFIX").arg(prefix);
                    tracking.exec_async(connection).await?;
                }
            }
            self.tell(topic, &Event::Reconnected);
        }
        for topic in known.difference(&wanted) {
            if let Topic::Channel(name) = topic {
                connection.unsubscribe(name).await?;
            }
        }
        *known = wanted;
        Ok(())
    }

    /// Takes what the server pushed.
    fn take(&self, push: PushInfo) {
        match (push.kind, push.data.as_slice()) {
            (PushKind::Message, [Value::BulkString(channel), Value::BulkString(message)]) => {
                if let Ok(channel) = std::str::from_utf8(channel) {
                    let event = Event::Message(Bytes::copy_from_slice(message));
                    self.tell(&Topic::Channel(channel.to_owned()), &event);
                }
            }
            (PushKind::Invalidate, [Value::Array(keys)]) => {
                for key in keys {
                    if let Value::BulkString(key) = key {
                        self.changed(key);
                    }
                }
            }
            (PushKind::Invalidate, [Value::Nil]) => self.flushed(),
            (PushKind::Disconnection, _) => self.ended.notify_one(),
            _ => {}
        }
    }

    fn changed(&self, key: &[u8]) {
        let is_of =
            |topic: &Topic| matches!(topic, Topic::Keys(prefix) if key.starts_with(prefix.as_bytes()));
        for topic in self.topics().into_iter().filter(is_of) {
            self.tell(&topic, &Event::Message(Bytes::copy_from_slice(key)));
        }
    }

    fn flushed(&self) {
        for topic in self.topics().into_iter().filter(|topic| matches!(topic, Topic::Keys(_))) {
            self.tell(&topic, &Event::Message(Bytes::new()));
        }
    }

    fn tell(&self, topic: &Topic, event: &Event) {
        let listeners = lock(&self.listeners);
        for mailbox in listeners.get(topic).into_iter().flatten().filter_map(Weak::upgrade) {
            mailbox.push(event.clone());
        }
    }

    /// What somebody listens to now.
    fn topics(&self) -> BTreeSet<Topic> {
        let mut listeners = lock(&self.listeners);
        listeners.retain(|_, mailboxes| {
            mailboxes.retain(|mailbox| mailbox.strong_count() > 0);
            !mailboxes.is_empty()
        });
        listeners.keys().cloned().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(channel: &str, text: &str) -> PushInfo {
        let of = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        PushInfo { kind: PushKind::Message, data: vec![of(channel), of(text)] }
    }

    #[tokio::test]
    async fn messages_go_to_those_who_listen_to_their_channel() {
        let messages = Messages::default();
        let mut a = messages.listen(Topic::Channel("a".to_owned()));
        let mut also = messages.listen(Topic::Channel("a".to_owned()));
        let b = messages.listen(Topic::Channel("b".to_owned()));
        messages.take(message("a", "1"));
        messages.take(message("c", "2"));
        assert_eq!(a.next().await, Event::Message(Bytes::from_static(b"1")));
        assert_eq!(also.next().await, Event::Message(Bytes::from_static(b"1")));
        assert!(lock(&b.mailbox.events).is_empty());
        drop((a, also));
        assert_eq!(messages.topics(), BTreeSet::from([Topic::Channel("b".to_owned())]));
    }

    #[tokio::test]
    async fn who_is_too_slow_is_told_so_and_costs_no_more_memory() {
        let messages = Messages::default();
        let mut slow = messages.listen(Topic::Channel("a".to_owned()));
        for number in 0..10 * WAITING {
            messages.take(message("a", &number.to_string()));
            assert!(lock(&slow.mailbox.events).len() <= WAITING);
        }
        assert_eq!(slow.next().await, Event::Reconnected);
    }

    #[tokio::test]
    async fn changed_keys_go_to_those_who_watch_their_prefix_and_a_flush_to_all_of_them() {
        let messages = Messages::default();
        let mut watching = messages.listen(Topic::Keys("n:epochs".to_owned()));
        let channel = messages.listen(Topic::Channel("n:epochs".to_owned()));
        let key = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let data = vec![Value::Array(vec![key("n:other"), key("n:epochs")])];
        messages.take(PushInfo { kind: PushKind::Invalidate, data });
        messages.take(PushInfo { kind: PushKind::Invalidate, data: vec![Value::Nil] });
        assert_eq!(watching.next().await, Event::Message(Bytes::from_static(b"n:epochs")));
        assert_eq!(watching.next().await, Event::Message(Bytes::new()));
        assert!(lock(&channel.mailbox.events).is_empty());
    }

    #[test]
    fn nonsense_is_passed_over() {
        let messages = Messages::default();
        let listener = messages.listen(Topic::Channel("a".to_owned()));
        for data in [vec![], vec![Value::Nil], vec![Value::Int(1); 9], vec![Value::BulkString(vec![0xff]); 2]]
        {
            for kind in [PushKind::Message, PushKind::Invalidate, PushKind::Other("x".to_owned())] {
                messages.take(PushInfo { kind, data: data.clone() });
            }
        }
        assert!(lock(&listener.mailbox.events).is_empty());
    }
}
