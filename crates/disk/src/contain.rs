//! Panics of libraries, contained.

use std::{
    cell::RefCell,
    panic::{PanicHookInfo, set_hook, take_hook},
    sync::{Once, mpsc},
    thread,
};

type Outlet = Box<dyn Fn(Panicked)>;

thread_local! {
    /// Where a panic of this thread is told, if it runs contained work.
    static OUTLET: RefCell<Option<Outlet>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Contained work ended in a panic.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Panicked {
    /// What the panic said, and where in the source.
    pub text: String,
}

/// Runs `work` on a thread of its own and gives what it gave, or what its panic said.
///
/// For storage engines that assert what a damaged file should say: `catch_unwind` is not enough for them, for what they
/// had half made is dropped while the panic unwinds, finds its locks poisoned and panics again, and that aborts the
/// process without a word to whoever asked. Here nothing is unwound: the thread stays as it is until the process ends,
/// with all that it holds. So this is for work after whose failure a process has only its error left to say.
///
/// # Errors
/// [`Panicked`] if the work panicked, or its thread could not be started.
pub(crate) fn contain<T, W>(name: &str, work: W) -> Result<T, Panicked>
where
    T: Send + 'static,
    W: FnOnce() -> T + Send + 'static,
{
    HOOK.call_once(install);
    let (outlet, outcome) = mpsc::channel();
    let run = move || {
        let told = outlet.clone();
        // A receiver that is gone has its answer.
        let tell = Box::new(move |panicked| drop(told.send(Err(panicked))));
        OUTLET.with_borrow_mut(|outlet| *outlet = Some(tell));
        let done = work();
        OUTLET.with_borrow_mut(Option::take);
        let _ = outlet.send(Ok(done));
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| Panicked {
            text: format!("its thread could not be started: {error}"),
        })?;
    outcome.recv().unwrap_or_else(|_| {
        Err(Panicked {
            text: "its thread ended".to_owned(),
        })
    })
}

/// From now on a panic of contained work is told and its thread sleeps; every other panic goes where it went before.
fn install() {
    let before = take_hook();
    set_hook(Box::new(move |info| {
        let outlet = OUTLET
            .try_with(|outlet| outlet.try_borrow_mut().ok()?.take())
            .ok()
            .flatten();
        match outlet {
            Some(tell) => {
                tell(panicked(info));
                loop {
                    thread::park();
                }
            }
            None => before(info),
        }
    }));
}

fn panicked(info: &PanicHookInfo<'_>) -> Panicked {
    let said = info.payload_as_str().unwrap_or("it does not say why");
    let place = info
        .location()
        .map_or_else(String::new, |place| format!(" ({place})"));
    Panicked {
        text: format!("{said}{place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Panics again while the first panic unwinds, as a database with a poisoned lock does.
    struct Twice;

    impl Drop for Twice {
        fn drop(&mut self) {
            panic!("again");
        }
    }

    #[test]
    fn a_panic_that_would_abort_becomes_an_error() {
        let failed = contain("broken", || {
            let _twice = Twice;
            panic!("the table of {} things is broken", 7);
        });
        let failed: Result<(), Panicked> = failed;
        let text = failed.unwrap_err().text;
        assert!(text.contains("the table of 7 things is broken"), "{text}");
        assert!(text.contains("contain.rs"), "{text}");
    }

    #[test]
    fn what_goes_well_is_given_and_other_panics_are_as_before() {
        assert_eq!(contain("sound", || 42).unwrap(), 42);
        assert!(thread::spawn(|| panic!("elsewhere")).join().is_err());
        assert_eq!(contain("sound again", || 43).unwrap(), 43);
    }
}
