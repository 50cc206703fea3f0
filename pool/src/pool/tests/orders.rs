//! Who of those that wait is next.

use super::*;
use crate::config::QueueOrder;
use crate::snapshot::Standing;

const AGEING: Duration = Duration::from_secs(30);

fn ordered(order: QueueOrder) -> PoolConfig {
    PoolConfig { order, queue_limit: 1_000_000, queue_timeout: ms(100_000_000), ..PoolConfig::default() }
}

fn flow(flow: u64) -> Class {
    Class { flow, ..Class::default() }
}

fn priority(priority: u8) -> Class {
    Class { priority, ..Class::default() }
}

/// One instance at work on request 0, so that all others wait.
fn busy(order: QueueOrder) -> Story {
    let mut story = Story::ready(1, ordered(order));
    story.arrive(0);
    story
}

impl Story {
    /// Answers one request after the other, beginning with this one; who was sent next each time.
    fn served_after(&mut self, first: u64, most: usize) -> Vec<u64> {
        let mut served = Vec::new();
        let mut flying = Some(first);
        while let Some(request) = flying.filter(|_| served.len() < most) {
            flying = dispatched(&self.finish(request, Outcome::Answered)).first().map(|(next, _)| *next);
            served.extend(flying);
        }
        served
    }

    fn ahead(&self, request: u64) -> Option<usize> {
        self.pool.standing(RequestId(request), self.now).map(|standing| standing.ahead)
    }

    fn cancel(&mut self, request: u64) {
        assert_eq!(self.event(Event::RequestCancelled { request: RequestId(request) }), []);
    }
}

/// Every waiting request's place in the queue is the number of those that are served before it.
fn standings_come_true(mut story: Story, flying: u64, waiting: &[u64]) {
    let told: Vec<Option<usize>> = waiting.iter().map(|request| story.ahead(*request)).collect();
    let served = story.served_after(flying, usize::MAX);
    let come = waiting.iter().map(|request| served.iter().position(|it| it == request));
    assert_eq!(told, come.collect::<Vec<_>>());
}

#[test]
fn a_client_with_few_requests_beside_one_with_many_gets_half_of_the_service() {
    let mut story = busy(QueueOrder::Fair);
    (1..=190).for_each(|n| drop(story.arrive_as(n, flow(1))));
    (191..=200).for_each(|n| drop(story.arrive_as(n, flow(2))));
    let served = story.served_after(0, 20);
    assert_eq!(served[..4], [1, 191, 2, 192]);
    assert_eq!(served.iter().filter(|request| **request > 190).count(), 10);
    assert_eq!(story.served_after(served[19], usize::MAX), (11..=190).collect::<Vec<u64>>());
}

#[test]
fn a_flow_that_a_client_leaves_keeps_its_turn_and_one_that_is_empty_loses_it() {
    let mut story = busy(QueueOrder::Fair);
    for (request, of) in [(1, 1), (2, 1), (3, 2), (4, 3), (5, 3)] {
        story.arrive_as(request, flow(of));
    }
    story.cancel(1);
    story.cancel(3);
    story.arrive_as(6, flow(2));
    assert_eq!(story.served_after(0, usize::MAX), [2, 4, 6, 5], "flow 2 came back behind flow 3");
}

#[test]
fn a_higher_priority_goes_first_and_equals_by_arrival() {
    let mut story = busy(QueueOrder::Priority { ageing: AGEING });
    for (request, of) in [(1, 0), (2, 5), (3, 9), (4, 5), (5, 200)] {
        story.arrive_as(request, priority(of));
    }
    assert_eq!(story.served_after(0, usize::MAX), [3, 5, 2, 4, 1], "more than 9 counts as 9");
}

#[test]
fn waiting_makes_up_for_a_lower_priority() {
    let mut story = busy(QueueOrder::Priority { ageing: AGEING });
    story.arrive_as(1, priority(5));
    story.pass(ms(59_999));
    story.arrive_as(2, priority(7));
    story.pass(ms(1));
    story.arrive_as(3, priority(7));
    story.pass(ms(1));
    story.arrive_as(4, priority(7));
    assert_eq!(story.served_after(0, usize::MAX), [2, 1, 3, 4], "two levels are a minute");
}

#[test]
fn where_a_priority_is_worth_no_waiting_all_are_served_by_arrival() {
    let mut story = busy(QueueOrder::Priority { ageing: Duration::ZERO });
    for (request, of) in [(1, 5), (2, 0), (3, 9), (4, 5)] {
        story.arrive_as(request, priority(of));
    }
    standings_come_true(story, 0, &[1, 2, 3, 4]);
}

#[test]
fn nothing_starves_under_a_flood_of_the_highest_priority() {
    let mut story = busy(QueueOrder::Priority { ageing: AGEING });
    story.arrive_as(1, priority(0));
    let mut flying = 0;
    for n in 2.. {
        story.arrive_as(n, priority(9));
        story.pass(ms(1_000));
        flying = story.served_after(flying, 1)[0];
        if flying == 1 {
            break;
        }
    }
    assert_eq!(
        story.now.since(Time::ZERO),
        AGEING * 9 + ms(1_000),
        "nine levels of ageing, and the turn under way"
    );
}

/// Pearson's chi-square of these counts against equal chances.
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

#[test]
fn a_random_order_gives_whoever_waits_the_same_chance_at_each_slot() {
    let mut served = [[0; 10]; 10];
    for seed in 0..5_000 {
        let mut story = Story::seeded(seed, 1, ordered(QueueOrder::Random));
        story.start_all();
        (0..=11).for_each(|n| drop(story.arrive(n)));
        story.cancel(11);
        for (turn, request) in story.served_after(0, 10).into_iter().enumerate() {
            served[turn][request as usize - 1] += 1;
        }
    }
    for (turn, counts) in served.iter().enumerate() {
        // Nine degrees of freedom: 27.88 is passed by one in a thousand.
        assert!(chi_square(counts) < 27.88, "turn {turn}: {counts:?}");
    }
}

#[test]
fn a_second_client_need_not_wait_for_the_first_ones_thousand() {
    let mut story = busy(QueueOrder::Random);
    (1..=1_000).for_each(|n| drop(story.arrive(n)));
    (1_001..=1_010).for_each(|n| drop(story.arrive(n)));
    let served = story.served_after(0, usize::MAX);
    let second: Vec<usize> = (1_001..=1_010).filter_map(|n| served.iter().position(|it| *it == n)).collect();
    let mean = second.iter().sum::<usize>() / 10;
    assert!((250..750).contains(&mean), "{second:?}");
}

#[test]
fn replays_go_first_in_every_order() {
    let priority_order = QueueOrder::Priority { ageing: AGEING };
    for order in [QueueOrder::Fifo, QueueOrder::Random, QueueOrder::Fair, priority_order] {
        let mut story = Story::ready(2, ordered(order));
        story.arrive_as(1, priority(0));
        story.arrive_as(2, priority(0));
        (3..=9).for_each(|n| drop(story.arrive_as(n, Class { flow: n, ..priority(9) })));
        story.finish(1, lost(true));
        assert_eq!(story.ahead(1), Some(0));
        assert_eq!(dispatched(&story.finish(2, Outcome::Answered)), [(1, 1)], "{order:?}");
    }
}

#[test]
fn places_are_told_as_they_will_be() {
    let mut story = busy(QueueOrder::Fifo);
    (1..=9).for_each(|n| drop(story.arrive(n)));
    story.cancel(4);
    standings_come_true(story, 0, &[1, 2, 3, 5, 6, 7, 8, 9]);

    let mut story = busy(QueueOrder::Fair);
    for (request, of) in [(1, 1), (2, 1), (3, 2), (4, 1), (5, 3), (6, 2), (7, 4), (8, 4), (9, 4)] {
        story.arrive_as(request, flow(of));
    }
    assert_eq!(story.served_after(0, 1), [1], "so that flow 1 has had its turn");
    standings_come_true(story, 1, &[2, 3, 4, 5, 6, 7, 8, 9]);

    let mut story = busy(QueueOrder::Priority { ageing: AGEING });
    for (request, of) in [(1, 1), (2, 9), (3, 5), (4, 0), (5, 3), (6, 5), (7, 1), (8, 0), (9, 2)] {
        story.arrive_as(request, priority(of));
        story.pass(ms(30_000));
    }
    standings_come_true(story, 0, &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn far_places_and_waits_are_estimated_from_the_rate_at_which_the_queue_drains() {
    let mut story = busy(QueueOrder::Fifo);
    (1..=20_000).for_each(|n| drop(story.arrive(n)));
    assert_eq!(story.pool.standing(RequestId(20_000), story.now).unwrap().wait, None, "nothing drains yet");
    for n in 0..40 {
        story.pass(ms(500));
        story.finish(n, Outcome::Answered);
    }
    assert_eq!(story.pool.standing(RequestId(40), story.now), None, "it is at work");
    for (request, ahead) in [(41, 0), (1_000, 959), (20_000, 19_959)] {
        let standing = story.pool.standing(RequestId(request), story.now).unwrap();
        assert_eq!((standing.ahead, standing.waiting), (ahead, 19_960));
        let wait = standing.wait.unwrap().as_secs_f64() / ((ahead + 1) as f64 / 2.0);
        assert!((0.8..1.25).contains(&wait), "{standing:?}: two a second are served");
    }
    let mut story = busy(QueueOrder::Random);
    (1..=101).for_each(|n| drop(story.arrive(n)));
    story.pass(ms(300));
    let mean = Standing { ahead: 50, waiting: 101, wait: None, age: ms(300), attempts: 0 };
    assert_eq!(story.pool.standing(RequestId(7), story.now), Some(mean));
    let waiting: Vec<u64> = story.pool.waiting_requests().map(|request| request.0).collect();
    assert_eq!(waiting, Vec::from_iter(1..=101), "by arrival");
}

#[test]
fn another_order_takes_over_those_that_wait() {
    let mut story = busy(QueueOrder::Random);
    (1..=6).for_each(|n| drop(story.arrive_as(n, Class { flow: n / 4, ..priority(n as u8) })));
    let ageing = AGEING;
    let mut flying = 0;
    for (order, next) in [(QueueOrder::Priority { ageing }, 6), (QueueOrder::Fair, 1), (QueueOrder::Fifo, 2)]
    {
        let config = Arc::new(ordered(order));
        assert_eq!(story.event(Event::ConfigChanged { config, roll: false }), []);
        assert_eq!(story.served_after(flying, 1), [next], "{order:?}");
        flying = next;
    }
}

#[test]
fn what_expires_on_its_turn_costs_nobody_else_theirs() {
    for order in [QueueOrder::Fifo, QueueOrder::Random, QueueOrder::Fair] {
        let mut story = Story::ready(1, ordered(order));
        story.arrive(0);
        (1..=5).for_each(|n| drop(story.arrive_until(n, Time::ZERO + ms(10))));
        story.arrive(6);
        story.now = Time::ZERO + ms(10);
        let asked = story.finish(0, Outcome::Answered);
        assert_eq!(dispatched(&asked), [(6, 0)], "{order:?}");
        assert!(rejected(&asked).iter().all(|(_, why)| *why == RejectReason::DeadlinePassed));
    }
}
