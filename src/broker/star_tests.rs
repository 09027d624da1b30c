//! A pair of brokers in a world of ticks, with kills, pauses and cut roads.

use proptest::prelude::*;

use super::*;

const BEAT: Duration = Duration::from_secs(1);
const DEAD: Duration = Duration::from_secs(3);

fn at(start: Instant, seconds: u64) -> Instant {
    start + Duration::from_secs(seconds)
}

#[test]
fn a_broker_alone_is_active_at_once() {
    let now = Instant::now();
    assert_eq!(Star::new(Role::Primary, false, DEAD, now).tick(now), Turn::TakeOver);
}

#[test]
fn a_backup_takes_over_after_the_silence_and_no_earlier() {
    let start = Instant::now();
    let mut star = Star::new(Role::Backup, true, DEAD, start);
    assert_eq!(star.heard(at(start, 1)), Turn::Stay);
    for second in 1..4 {
        assert_eq!(star.tick(at(start, second)), Turn::Stay, "{second}");
    }
    assert_eq!(star.tick(at(start, 4)), Turn::TakeOver);
    assert_eq!(star.state(), State::Active);
}

#[test]
fn a_primary_that_comes_back_finds_the_other_active_with_or_without_heartbeats() {
    let start = Instant::now();
    let mut star = Star::new(Role::Primary, true, DEAD, start);
    assert_eq!(star.heard(start), Turn::StandBy(Why::PeerIsActive));
    let mut star = Star::new(Role::Primary, true, DEAD, start);
    assert_eq!(star.probed(Probe::Accepts, start), Turn::StandBy(Why::PeerIsActive));
    for second in 1..10 {
        assert_eq!(star.tick(at(start, second)), Turn::Stay);
        assert!(star.wants_probe(at(start, second)));
        assert_eq!(star.probed(Probe::Accepts, at(start, second)), Turn::Stay);
    }
    let turns: Vec<Turn> = (10..13).map(|second| star.tick(at(start, second))).collect();
    assert_eq!(turns, [Turn::Stay, Turn::Stay, Turn::TakeOver], "then it is gone");
}

#[test]
fn a_primary_begins_at_once_where_nobody_listens_and_after_the_silence_where_nothing_comes_back() {
    let start = Instant::now();
    let mut star = Star::new(Role::Primary, true, DEAD, start);
    assert_eq!(star.probed(Probe::Refused, start), Turn::TakeOver);
    let mut star = Star::new(Role::Primary, true, DEAD, start);
    assert_eq!(star.probed(Probe::Silent, at(start, 1)), Turn::Stay);
    assert_eq!(star.tick(at(start, 2)), Turn::Stay);
    assert_eq!(star.tick(at(start, 3)), Turn::TakeOver);
}

#[test]
fn a_primary_that_stopped_but_still_accepts_is_dead() {
    let start = Instant::now();
    let mut star = Star::new(Role::Backup, true, DEAD, start);
    star.heard(at(start, 1));
    for second in 2..4 {
        assert_eq!(star.probed(Probe::Accepts, at(start, second)), Turn::Stay);
        assert_eq!(star.tick(at(start, second)), Turn::Stay);
    }
    assert_eq!(star.tick(at(start, 4)), Turn::TakeOver);
}

#[test]
fn who_stood_still_may_not_forward_and_looks_again() {
    let start = Instant::now();
    let mut star = Star::new(Role::Primary, true, DEAD, start);
    star.probed(Probe::Refused, start);
    assert_eq!(star.tick(at(start, 1)), Turn::Stay);
    assert_eq!(star.lease(), Some(at(start, 4)));
    assert_eq!(star.tick(at(start, 9)), Turn::StandBy(Why::StoodStill));
    assert_eq!((star.state(), star.lease()), (State::Listening, None));
    assert_eq!(star.probed(Probe::Accepts, at(start, 9)), Turn::StandBy(Why::PeerIsActive));
}

#[test]
fn where_both_are_active_the_backup_gives_way_and_a_primary_only_to_one_that_stays() {
    let start = Instant::now();
    let mut star = Star::new(Role::Backup, true, DEAD, start);
    for second in 1..4 {
        star.tick(at(start, second));
    }
    assert_eq!(star.state(), State::Active);
    assert_eq!(star.heard(at(start, 5)), Turn::StandBy(Why::PrimaryIsActive));

    let mut star = Star::new(Role::Primary, true, DEAD, start);
    star.probed(Probe::Refused, start);
    let mut turns = Vec::new();
    for second in 1..9 {
        assert_eq!(star.heard(at(start, second)), Turn::Stay);
        turns.push(star.tick(at(start, second)));
    }
    assert_eq!(turns.iter().position(|turn| *turn == Turn::StandBy(Why::PeerStays)), Some(6));
}

/// What goes wrong in a second.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill(usize),
    Pause(usize),
    Cut,
}

fn faults() -> impl Strategy<Value = Vec<(u64, u64, Fault)>> {
    let fault = prop_oneof![(0..2_usize).prop_map(Fault::Kill), (0..2_usize).prop_map(Fault::Pause), Just(Fault::Cut)];
    prop::collection::vec((0..60_u64, 1..20_u64, fault), 0..6)
}

/// Two brokers, one tick a second; a fault begins at a second and lasts for some.
struct World {
    start: Instant,
    stars: [Option<Star>; 2],
    faults: Vec<(u64, u64, Fault)>,
}

impl World {
    const ROLES: [Role; 2] = [Role::Primary, Role::Backup];

    fn suffers(&self, second: u64, wanted: impl Fn(Fault) -> bool) -> bool {
        self.faults.iter().any(|&(from, time, fault)| (from..from + time).contains(&second) && wanted(fault))
    }

    /// One second; who has forwarded in it.
    fn second(&mut self, second: u64) -> [bool; 2] {
        let now = at(self.start, second);
        for k in 0..2 {
            if self.suffers(second, |fault| matches!(fault, Fault::Kill(who) if who == k)) {
                self.stars[k] = None;
            } else if self.stars[k].is_none() {
                self.stars[k] = Some(Star::new(Self::ROLES[k], true, DEAD, now));
            }
        }
        let paused = [0, 1].map(|k| self.suffers(second, |fault| matches!(fault, Fault::Pause(who) if who == k)));
        let cut = self.suffers(second, |fault| matches!(fault, Fault::Cut));
        let active = |star: &Option<Star>| star.as_ref().is_some_and(|star| star.state() == State::Active);
        for k in 0..2 {
            let (accepts, gone) = (active(&self.stars[1 - k]), self.stars[1 - k].is_none());
            let beats = accepts && !paused[1 - k] && !cut;
            let Some(star) = self.stars[k].as_mut().filter(|_| !paused[k]) else { continue };
            star.tick(now);
            if beats {
                star.heard(now);
            } else if star.wants_probe(now) {
                let probe = match (cut, accepts, gone) {
                    (true, ..) => Probe::Silent,
                    (_, true, _) => Probe::Accepts,
                    _ => Probe::Refused,
                };
                star.probed(probe, now);
            }
        }
        [0, 1].map(|k| active(&self.stars[k]) && !paused[k])
    }
}

proptest! {
    #[test]
    fn once_the_faults_are_over_one_of_them_publishes_and_only_one(faults in faults()) {
        let mut world = World { start: Instant::now(), stars: [None, None], faults };
        let calm = 60 + 20 + 2 * DEAD.as_secs() + 2;
        for second in 0..calm + 30 {
            let forwards = world.second(second);
            if second >= calm {
                prop_assert_eq!(forwards.iter().filter(|&&forwards| forwards).count(), 1, "second {}", second);
            }
        }
        prop_assert!(BEAT < DEAD);
    }

    #[test]
    fn kills_alone_never_make_two_of_them_publish(faults in faults()) {
        let faults = faults.into_iter().filter(|(.., fault)| matches!(fault, Fault::Kill(_))).collect();
        let mut world = World { start: Instant::now(), stars: [None, None], faults };
        for second in 0..120 {
            prop_assert_ne!(world.second(second), [true, true], "second {}", second);
        }
    }

    #[test]
    fn after_a_pause_both_publish_for_no_longer_than_a_heartbeat(faults in faults()) {
        let faults = faults.into_iter().filter(|(.., fault)| !matches!(fault, Fault::Cut)).collect();
        let mut world = World { start: Instant::now(), stars: [None, None], faults };
        let mut before = false;
        for second in 0..120 {
            let both = world.second(second) == [true, true];
            prop_assert!(!(both && before), "second {}", second);
            before = both;
        }
    }
}
