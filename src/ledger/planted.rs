//! Bugs that the walks and the simulation plant, to see that they would find them. In a program that is used none is there, and
//! asking costs nothing.

/// A decision that is wrong on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "the walks plant all of them, the simulation some"))]
pub(crate) enum Planted {
    /// An entry is settled before all members have acknowledged it.
    AckEarly,
    /// A ledger goes on after its connection ended.
    Resume,
    /// A ledger is closed at the greatest of what its members acknowledged.
    CloseAtGreatest,
    /// An adopter promises before it has everything.
    PartPromises,
    /// A ledger is adopted while it is open for all of those present.
    AdoptOpen,
    /// A folder that lost its log's end keeps its identity.
    SameIdentity,
    /// A read is complete when all ledgers that were heard of are.
    ClaimWithoutLeast,
    /// A new node gets ledgers before M others noted it.
    UsableAtOnce,
    /// An identity goes out before its ledgers are promised by M others.
    OutUnrepaired,
    /// A read counts the roster at its end alone.
    RosterAtEnd,
    /// Who notes nothing of what is known may let an identity go out: two drains at two heads.
    OutUnnoted,
    /// The end of a Close is what clients were told, and they are told more afterwards.
    ToldAfterClose,
}

#[cfg(any(test, feature = "simulation"))]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Plants a bug in this thread, or none.
#[cfg(any(test, feature = "simulation"))]
pub(crate) fn plant(bug: Option<Planted>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted.
#[cfg(any(test, feature = "simulation"))]
pub(crate) fn is(bug: Planted) -> bool {
    PLANTED.get() == Some(bug)
}

/// No bug is planted.
#[cfg(not(any(test, feature = "simulation")))]
pub(crate) const fn is(_bug: Planted) -> bool {
    false
}
