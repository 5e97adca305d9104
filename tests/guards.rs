//! Every guard gives back what it guards, on every way out, on real elements.
//!
//! A process of its own, and one test at a time in it: only so are the live counts exact.

#[cfg(test)]
mod guards {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

    use gst::prelude::*;
    use lensline::guard::{
        BusWatch, Cleanup, Element, Kind, Pipeline, Probe, RequestPad, Signal, Stack, live,
    };

    /// Holds the other tests off, and sees at its end that nothing is live that was not before
    /// and that neither GLib nor GStreamer had to complain.
    struct Alone {
        before: Vec<(Kind, i64)>,
        _alone: MutexGuard<'static, ()>,
    }

    static COMPLAINTS: Mutex<Vec<String>> = Mutex::new(Vec::new());

    impl Alone {
        fn begin() -> Self {
            static ALONE: Mutex<()> = Mutex::new(());
            let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
            gst::init().unwrap();
            for domain in ["GStreamer", "GLib", "GLib-GObject"] {
                let levels = glib::LogLevels::LEVEL_WARNING | glib::LogLevels::LEVEL_CRITICAL;
                glib::log_set_handler(Some(domain), levels, false, false, |_, _, text| {
                    COMPLAINTS.lock().unwrap().push(text.into());
                });
            }
            COMPLAINTS.lock().unwrap().clear();
            Self { before: live().collect(), _alone: alone }
        }

        fn end(self) {
            assert_eq!(self.before, live().collect::<Vec<_>>());
            assert_eq!(*COMPLAINTS.lock().unwrap(), Vec::<String>::new());
        }
    }

    fn live_of(kind: Kind) -> i64 {
        live().find(|(of, _)| *of == kind).unwrap().1
    }

    fn make(factory: &str) -> gst::Element {
        gst::ElementFactory::make(factory).build().unwrap()
    }

    /// A counter, and what adds to it.
    fn counter() -> (Arc<AtomicUsize>, impl Fn() + Send + Sync + Clone + 'static) {
        let count = Arc::new(AtomicUsize::new(0));
        let adding = Arc::clone(&count);
        (count, move || {
            adding.fetch_add(1, Ordering::Relaxed);
        })
    }

    /// Takes a guard out of scope by a drop, by an early return and by a panic. `acquire` gives
    /// the guard and a look at whether its resource is held.
    fn is_given_back_on_every_way_out<G, H: Fn() -> bool>(
        kind: Kind,
        acquire: impl Fn() -> (G, H),
    ) {
        let alone = Alone::begin();
        let live_before = live_of(kind);
        let check = |way: &str, leave: &dyn Fn(G)| {
            let (guard, held) = acquire();
            assert!(held(), "{way}: not held");
            assert_eq!(live_of(kind), live_before + 1, "{way}");
            leave(guard);
            assert!(!held(), "{way}: still held");
            assert_eq!(live_of(kind), live_before, "{way}");
        };
        check("drop", &|guard| drop(guard));
        check("early return", &|guard| {
            let fallible = move || -> Result<(), std::fmt::Error> {
                let _guard = guard;
                Err(std::fmt::Error)?;
                Ok(())
            };
            assert!(fallible().is_err());
        });
        check("panic", &|guard| {
            let panics = move || {
                let _guard = guard;
                panic!("as this test wants it");
            };
            assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        });
        alone.end();
    }

    #[test]
    fn a_pipeline_is_set_to_null() {
        is_given_back_on_every_way_out(Kind::Pipeline, || {
            let pipeline = gst::Pipeline::new();
            let (source, sink) = (make("fakesrc"), make("fakesink"));
            pipeline.add_many([&source, &sink]).unwrap();
            source.link(&sink).unwrap();
            let guard = Pipeline::new(pipeline.clone());
            guard.start().unwrap();
            let _ = pipeline.state(gst::ClockTime::from_seconds(10));
            (guard, move || sink.current_state() != gst::State::Null)
        });
    }

    #[test]
    fn an_element_is_set_to_null_and_taken_out_of_its_bin() {
        is_given_back_on_every_way_out(Kind::Element, || {
            let bin = gst::Bin::new();
            let element = make("identity");
            let guard = Element::add(&bin, element.clone()).unwrap();
            guard.set_state(gst::State::Paused).unwrap();
            (guard, move || {
                let (is_in, is_null) = (
                    bin.children().contains(&element),
                    element.current_state() == gst::State::Null,
                );
                assert_ne!(is_in, is_null, "half given back");
                is_in
            })
        });
    }

    #[test]
    fn a_request_pad_is_unlinked_and_released() {
        is_given_back_on_every_way_out(Kind::RequestPad, || {
            let (tee, sink) = (make("tee"), make("fakesink"));
            let guard = RequestPad::request(&tee, "src_%u").unwrap();
            let sink_pad = sink.static_pad("sink").unwrap();
            guard.link(&sink_pad).unwrap();
            (guard, move || {
                let _sink = &sink;
                assert_eq!(tee.num_src_pads() > 0, sink_pad.is_linked(), "half given back");
                sink_pad.is_linked()
            })
        });
    }

    #[test]
    fn a_probe_is_removed() {
        is_given_back_on_every_way_out(Kind::Probe, || {
            let identity = make("identity");
            let pad = identity.static_pad("src").unwrap();
            pad.set_active(true).unwrap();
            let (seen, see) = counter();
            let guard = Probe::add(&pad, gst::PadProbeType::EVENT_UPSTREAM, move |_, _| {
                see();
                gst::PadProbeReturn::Ok
            });
            (guard.unwrap(), move || {
                let _identity = &identity;
                let before = seen.load(Ordering::Relaxed);
                let structure = gst::Structure::new_empty("look");
                let _ = pad.send_event(gst::event::CustomUpstream::new(structure));
                seen.load(Ordering::Relaxed) > before
            })
        });
    }

    #[test]
    fn a_signal_handler_is_disconnected() {
        is_given_back_on_every_way_out(Kind::Signal, || {
            let element = make("identity");
            let (seen, see) = counter();
            let id = element.connect_notify(Some("silent"), move |_, _| see());
            (Signal::new(&element, id), move || {
                let before = seen.load(Ordering::Relaxed);
                element.set_property("silent", false);
                seen.load(Ordering::Relaxed) > before
            })
        });
    }

    #[test]
    fn a_handler_is_taken_off_a_bus_with_all_it_holds() {
        is_given_back_on_every_way_out(Kind::BusWatch, || {
            let pipeline = gst::Pipeline::new();
            let (seen, see) = counter();
            let guard = BusWatch::add(&pipeline, move |_| see()).unwrap();
            (guard, move || {
                let _ = pipeline.bus().unwrap().post(gst::message::Latency::new());
                let called = seen.load(Ordering::Relaxed) > 0;
                seen.store(0, Ordering::Relaxed);
                assert_eq!(Arc::strong_count(&seen) > 1, called, "the closure outlives its watch");
                called
            })
        });
    }

    #[test]
    fn a_cleanup_runs() {
        is_given_back_on_every_way_out(Kind::Cleanup, || {
            let (ran, run) = counter();
            (Cleanup::new(run), move || ran.load(Ordering::Relaxed) == 0)
        });
    }

    #[test]
    fn a_shared_cleanup_runs() {
        is_given_back_on_every_way_out(Kind::Cleanup, || {
            let (ran, run) = counter();
            (Cleanup::new(run).share(), move || ran.load(Ordering::Relaxed) == 0)
        });
    }

    #[test]
    fn a_stack_gives_back_what_is_on_it() {
        is_given_back_on_every_way_out(Kind::Cleanup, || {
            let (ran, run) = counter();
            let mut stack = Stack::new();
            stack.push(Cleanup::new(run));
            (stack, move || ran.load(Ordering::Relaxed) == 0)
        });
    }

    #[test]
    fn a_cleanup_that_is_dismissed_does_not_run() {
        let alone = Alone::begin();
        let (ran, run) = counter();
        Cleanup::new(run).dismiss();
        assert_eq!(ran.load(Ordering::Relaxed), 0);
        alone.end();
    }

    #[test]
    fn a_cleanup_with_several_owners_runs_once_when_the_last_is_gone() {
        let alone = Alone::begin();
        let (ran, run) = counter();
        let shared = Cleanup::new(run).share();
        let others: Vec<_> = (0..4).map(|_| shared.clone()).collect();
        drop(shared);
        let threads: Vec<_> = others
            .into_iter()
            .map(|other| {
                assert_eq!(ran.load(Ordering::Relaxed), 0);
                std::thread::spawn(move || drop(other))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        alone.end();
    }

    /// Cleanups that note their names in the order in which they run.
    fn diary() -> (Arc<Mutex<Vec<&'static str>>>, impl Fn(&'static str) -> Cleanup) {
        let diary = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&diary);
        (diary, move |name| {
            let notes = Arc::clone(&notes);
            Cleanup::new(move || {
                notes.lock().unwrap().push(name);
                assert_ne!(name, "panics", "as this test wants it");
            })
        })
    }

    #[test]
    fn a_stack_goes_last_in_first_out_and_so_does_a_stack_on_a_stack() {
        let alone = Alone::begin();
        let (diary, cleanup) = diary();
        let mut inner = Stack::new();
        inner.push(cleanup("inner first"));
        inner.push(cleanup("inner last"));
        let mut outer = Stack::new();
        outer.push(cleanup("first"));
        outer.push(inner);
        outer.push(cleanup("last"));
        let unwind = catch_unwind(AssertUnwindSafe(move || {
            let _outer = outer;
            panic!("as this test wants it");
        }));
        assert!(unwind.is_err());
        assert_eq!(*diary.lock().unwrap(), ["last", "inner last", "inner first", "first"]);
        alone.end();
    }

    #[test]
    fn a_guard_that_panics_keeps_those_under_it_neither_from_going_nor_in_their_order() {
        let alone = Alone::begin();
        let (diary, cleanup) = diary();
        let mut stack = Stack::new();
        for name in ["first", "second", "panics", "last"] {
            stack.push(cleanup(name));
        }
        assert!(catch_unwind(AssertUnwindSafe(|| drop(stack))).is_err());
        assert_eq!(*diary.lock().unwrap(), ["last", "panics", "second", "first"]);
        alone.end();
    }

    /// Adds a branch to `tee`, as a viewer would, and fails at the end of it.
    fn branch_that_fails(
        pipeline: &gst::Pipeline,
        tee: &gst::Element,
    ) -> Result<Stack, glib::BoolError> {
        let mut stack = Stack::new();
        let queue = Element::add(pipeline.upcast_ref(), make("queue"))?;
        let sink = Element::add(pipeline.upcast_ref(), make("fakesink"))?;
        sink.set_property("async", false);
        let sink_pad = queue.static_pad("sink").ok_or(glib::bool_error!("no pad"))?;
        queue.link(&*sink)?;
        sink.sync_state_with_parent()?;
        queue.sync_state_with_parent()?;
        stack.push(sink);
        stack.push(queue);
        let pad = RequestPad::request(tee, "src_%u").ok_or(glib::bool_error!("no pad"))?;
        pad.link(&sink_pad).map_err(|_| glib::bool_error!("no link"))?;
        stack.push(pad);
        Err(glib::bool_error!("as this test wants it"))
    }

    #[test]
    fn a_branch_that_fails_half_way_leaves_a_running_pipeline_as_it_was() {
        let alone = Alone::begin();
        let pipeline = gst::Pipeline::new();
        let guard = Pipeline::new(pipeline.clone());
        let [source, tee, sink] = ["appsrc", "tee", "fakesink"].map(make);
        pipeline.add_many([&source, &tee, &sink]).unwrap();
        gst::Element::link_many([&source, &tee, &sink]).unwrap();
        sink.set_property("signal-handoffs", true);
        let (tell, told) = std::sync::mpsc::channel();
        sink.connect("handoff", false, move |_| {
            let _ = tell.send(());
            None
        });
        guard.start().unwrap();
        let children = pipeline.children().len();
        for _ in 0..20 {
            assert!(branch_that_fails(&pipeline, &tee).is_err());
            assert_eq!((pipeline.children().len(), tee.num_src_pads()), (children, 1));
            let flow: gst::FlowReturn = source.emit_by_name("push-buffer", &[&gst::Buffer::new()]);
            assert_eq!(flow, gst::FlowReturn::Ok);
            told.recv_timeout(std::time::Duration::from_secs(10)).unwrap();
        }
        drop(guard);
        alone.end();
    }

    #[test]
    fn a_probe_that_removes_itself_is_not_removed_again() {
        let alone = Alone::begin();
        let identity = make("identity");
        let pad = identity.static_pad("src").unwrap();
        pad.set_active(true).unwrap();
        let mask = gst::PadProbeType::EVENT_UPSTREAM;
        let guard = Probe::add(&pad, mask, |_, _| gst::PadProbeReturn::Remove).unwrap();
        let _ = pad.send_event(gst::event::CustomUpstream::new(gst::Structure::new_empty("look")));
        drop(guard);
        let idle = Probe::add(&pad, gst::PadProbeType::IDLE, |_, _| gst::PadProbeReturn::Remove);
        assert!(idle.is_none(), "it ran at once and was gone");
        alone.end();
    }

    #[test]
    fn what_somebody_else_gave_back_already_is_let_be() {
        let alone = Alone::begin();
        let tee = make("tee");
        let pad = RequestPad::request(&tee, "src_%u").unwrap();
        tee.release_request_pad(&*pad);
        drop(pad);
        let pad = RequestPad::request(&tee, "src_%u").unwrap();
        let source_pad = make("identity").static_pad("src").unwrap();
        let probe = Probe::add(&pad, gst::PadProbeType::BUFFER, |_, _| gst::PadProbeReturn::Ok);
        let id = tee.connect_pad_added(|_, _| {});
        let signal = Signal::new(&tee, id);
        drop((tee, source_pad));
        drop((pad, probe, signal));
        alone.end();
    }

    #[test]
    fn a_pipeline_that_does_not_start_says_which_and_why() {
        let alone = Alone::begin();
        let pipeline = gst::Pipeline::with_name("of-nothing");
        let (source, sink) = (make("filesrc"), make("fakesink"));
        source.set_property("name", "the-source");
        source.set_property("location", "/nonexistent");
        pipeline.add_many([&source, &sink]).unwrap();
        source.link(&sink).unwrap();
        let error = Pipeline::new(pipeline).start().unwrap_err();
        assert_eq!(error.name, "of-nothing");
        assert!(error.reason.contains("the-source: Resource not found"), "{error}");
        alone.end();
    }
}
