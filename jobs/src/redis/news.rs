//! Hearing of changes: a connection of its own, opened again when it breaks. What is missed meanwhile is missed; whoever
//! waits for a job looks again now and then.

use std::time::Duration;

use futures_util::StreamExt;
use redis::Client;
use tokio::sync::broadcast;

use crate::store::News;

/// Time between two tries to connect.
const PAUSE: Duration = Duration::from_millis(500);

/// Passes on what is told on `channel`, for ever.
pub(super) async fn listen(client: Client, channel: String, news: broadcast::Sender<News>) {
    loop {
        if let Ok(mut subscription) = client.get_async_pubsub().await
            && subscription.subscribe(&channel).await.is_ok()
        {
            let mut messages = subscription.on_message();
            while let Some(message) = messages.next().await {
                if let Some(change) = message.get_payload::<String>().ok().and_then(|line| parse(&line)) {
                    // Nobody may be listening.
                    let _ = news.send(change);
                }
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// As it is told on the channel.
pub(super) fn line(news: &News) -> String {
    format!("{} {} {}", news.id, news.service, news.status.map_or("-", |status| status.name()))
}

fn parse(line: &str) -> Option<News> {
    let mut words = line.split(' ');
    let (id, service, status) = (words.next()?, words.next()?, words.next()?);
    let status = if status == "-" { None } else { Some(status.parse().ok()?) };
    Some(News { id: id.parse().ok()?, service: service.to_owned(), status })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;
    use crate::job::Status;

    #[test]
    fn news_reads_as_it_is_told() {
        for status in [None, Some(Status::Done)] {
            let news = News { id: JobId::new(), service: "calc".to_owned(), status };
            assert_eq!(parse(&line(&news)), Some(news));
        }
        assert_eq!(parse("something else"), None);
    }
}
