//! One listener: first what is kept, then what happens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::{Event, Events};

/// A listener that hears nothing else is told so often that it is still connected.
const QUIET: Duration = Duration::from_secs(15);

/// What a listener wants.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Of one service only.
    pub service: Option<String>,
    /// What was heard last, by its id: it goes on after that, if it is known still.
    pub after: Option<String>,
    /// Otherwise so many of the last ones.
    pub tail: usize,
    /// And whatever comes.
    pub follow: bool,
}

/// What a listener is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Something happened.
    Event(Arc<Event>),
    /// So many events were not told, since the listener was too slow or came too late.
    Lost(u64),
    /// Nothing happens.
    Quiet,
}

struct Listener {
    service: Option<String>,
    before: VecDeque<Told>,
    news: Option<broadcast::Receiver<Arc<Event>>>,
}

impl Events {
    /// What a listener is told. It ends with the process, or after what is kept.
    pub fn listen(&self, asked: Asked) -> impl Stream<Item = Told> + Send + use<> {
        let listener = self.listener(asked);
        futures_util::stream::unfold(listener, |mut listener| async move {
            let told = listener.next().await?;
            Some((told, listener))
        })
    }

    fn listener(&self, asked: Asked) -> Listener {
        let Asked { service, after, tail, follow } = asked;
        let after = after.and_then(|id| {
            let (process, number) = id.split_once('-')?;
            (process.parse() == Ok(self.process)).then(|| number.parse::<u64>().ok())?
        });
        // Under the lock: nothing happens between what was and what comes.
        let state = self.state.lock();
        let concerns = |event: &Event| concerns(service.as_deref(), event);
        let mut before = VecDeque::new();
        match after {
            Some(after) => {
                let oldest = state.kept.front().map_or(state.last + 1, |(number, _)| *number);
                let lost = oldest.saturating_sub(after.saturating_add(1));
                if lost > 0 {
                    before.push_back(Told::Lost(lost));
                }
                let missed = state.kept.iter().filter(|(number, event)| *number > after && concerns(event));
                before.extend(missed.map(|(_, event)| Told::Event(event.clone())));
            }
            None => {
                let all = state.kept.iter().rev().filter(|(_, event)| concerns(event)).take(tail);
                all.for_each(|(_, event)| before.push_front(Told::Event(event.clone())));
            }
        }
        let news = state.listeners.as_ref().filter(|_| follow).map(broadcast::Sender::subscribe);
        drop(state);
        Listener { service, before, news }
    }
}

/// What is about no service is about each.
fn concerns(service: Option<&str>, event: &Event) -> bool {
    service.is_none_or(|service| event.service.as_deref().is_none_or(|of| of == service))
}

impl Listener {
    async fn next(&mut self) -> Option<Told> {
        if let Some(told) = self.before.pop_front() {
            return Some(told);
        }
        let news = self.news.as_mut()?;
        loop {
            match timeout(QUIET, news.recv()).await {
                Ok(Ok(event)) if concerns(self.service.as_deref(), &event) => {
                    return Some(Told::Event(event));
                }
                Ok(Ok(_)) => {}
                Ok(Err(RecvError::Lagged(lost))) => return Some(Told::Lost(lost)),
                Ok(Err(RecvError::Closed)) => return None,
                Err(_) => return Some(Told::Quiet),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _};
    use tokio::task::unconstrained;

    use super::super::{BEHIND, Feed, KEPT, Kind};
    use super::*;
    use crate::clock::Clock;

    fn texts(told: &[Told]) -> Vec<String> {
        told.iter()
            .map(|told| match told {
                Told::Event(event) => event.text.clone(),
                Told::Lost(lost) => format!("{lost} lost"),
                Told::Quiet => "quiet".to_owned(),
            })
            .collect()
    }

    /// What a listener is told at once.
    fn heard(stream: &mut (impl Stream<Item = Told> + Unpin)) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(Some(one)) = unconstrained(stream.next()).now_or_never() {
            told.push(one);
        }
        texts(&told)
    }

    fn follow(tail: usize) -> Asked {
        Asked { tail, follow: true, ..Asked::default() }
    }

    #[tokio::test]
    async fn a_listener_hears_what_was_and_what_comes_until_the_end() {
        let events = Events::new(Clock::start());
        for text in ["one", "two", "three"] {
            events.tell(Kind::ConfigApplied, text);
        }
        let mut stream = Box::pin(events.listen(follow(2)).fuse());
        assert_eq!(heard(&mut stream), ["two", "three"]);
        events.tell(Kind::ConfigApplied, "four");
        assert_eq!(heard(&mut stream), ["four"]);
        events.end(Kind::ShuttingDown, "bye");
        assert_eq!(heard(&mut stream), ["bye"]);
        assert_eq!(stream.next().await, None);
        let short = events.listen(Asked { tail: 9, ..Asked::default() });
        assert_eq!(texts(&short.collect::<Vec<_>>().await), ["one", "two", "three", "four", "bye"]);
    }

    #[tokio::test]
    async fn a_slow_listener_is_told_how_much_it_has_missed() {
        let events = Events::new(Clock::start());
        let mut stream = Box::pin(events.listen(follow(0)));
        for number in 0..BEHIND + 10 {
            events.tell(Kind::ConfigApplied, number.to_string());
        }
        let heard = heard(&mut stream);
        assert_eq!((heard[0].as_str(), heard[1].as_str(), heard.len()), ("10 lost", "10", BEHIND + 1));
    }

    #[tokio::test]
    async fn whoever_comes_back_goes_on_where_it_was() {
        let events = Events::new(Clock::start());
        let after = |id: &str| Asked { after: Some(id.to_owned()), tail: 1, ..Asked::default() };
        for number in 1..=KEPT + 5 {
            events.tell(Kind::ConfigApplied, number.to_string());
        }
        let known = format!("{}-{}", events.process, KEPT + 3);
        let told = texts(&events.listen(after(&known)).collect::<Vec<_>>().await);
        assert_eq!(told, [(KEPT + 4).to_string(), (KEPT + 5).to_string()]);
        let old = format!("{}-2", events.process);
        let told = texts(&events.listen(after(&old)).collect::<Vec<_>>().await);
        assert_eq!((told[0].as_str(), told[1].as_str(), told.len()), ("3 lost", "6", KEPT + 1));
        let foreign = texts(&events.listen(after("1-7")).collect::<Vec<_>>().await);
        assert_eq!(foreign, [(KEPT + 5).to_string()], "another process's numbers mean nothing");
    }

    #[tokio::test]
    async fn a_listener_of_one_service_hears_of_that_and_of_the_cluster() {
        let events = Events::new(Clock::start());
        let feed = |name: &str| Feed::new(events.clone(), name.into());
        feed("calc").instance(Kind::InstanceStarting, "calc-0-1", "mine");
        feed("echo").instance(Kind::InstanceStarting, "echo-0-1", "another's");
        events.tell(Kind::ConfigApplied, "everybody's");
        let asked = Asked { service: Some("calc".to_owned()), tail: 9, ..Asked::default() };
        assert_eq!(texts(&events.listen(asked).collect::<Vec<_>>().await), ["mine", "everybody's"]);
    }
}
