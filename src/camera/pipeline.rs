//! The camera's pipeline, built element by element from its plan.

use std::sync::Arc;

use gst::prelude::*;
use tokio::sync::mpsc;

use super::encoder::{self, Encoder, Kind};
use super::lost::{Cause, Lost};
use super::plan::{Branch, Pads, Plan};
use super::probes;
use super::rtsp;
use super::simulated::{Driver, Simulator};
use super::spec::{Spec, SpecError};
use super::tap::Tap;
use super::watchdog::Marks;
use crate::clock;
use crate::guard;

/// What a pipeline is built from.
pub(super) struct Parts {
    pub camera: Arc<str>,
    pub plan: Plan,
    /// One for each branch of the plan.
    pub taps: Vec<Arc<Tap>>,
    pub simulator: Option<Arc<Simulator>>,
    /// Where a running pipeline says that it has failed.
    pub events: mpsc::Sender<Lost>,
}

/// A running camera. Its drop blocks while threads are joined and devices closed: it goes to
/// [`guard::Teardowns`]. The fields are dropped in this order: what calls in, then the pipeline,
/// then what must be given back after it.
#[derive(Debug)]
pub(super) struct Running {
    driver: Option<Driver>,
    signals: Vec<guard::Signal>,
    probes: Vec<guard::Probe>,
    watch: Option<guard::BusWatch>,
    pipeline: guard::Pipeline,
    pads: Vec<guard::RequestPad>,
    pub marks: Arc<Marks>,
    /// One for each branch, until they are taken.
    pub encoders: Vec<Encoder>,
}

/// Builds and starts a camera. Blocks while devices open.
///
/// # Errors
/// Where an element is missing or refuses, or the source is not there.
pub(super) fn build(parts: &Parts) -> Result<Running, Lost> {
    let pipeline = gst::Pipeline::with_name(&format!("camera-{}", parts.camera));
    clock::rule(&pipeline);
    let mut running = Running {
        driver: None,
        signals: Vec::new(),
        probes: Vec::new(),
        watch: None,
        pipeline: guard::Pipeline::new(pipeline),
        pads: Vec::new(),
        marks: Arc::new(Marks::new(parts.plan.branches.len())),
        encoders: Vec::new(),
    };
    let events = parts.events.clone();
    running.watch = guard::BusWatch::add(&running.pipeline, move |message| {
        if let Some(lost) = lost(message) {
            // A full channel holds an earlier failure, which is the one that matters.
            let _ = events.try_send(lost);
        }
    });
    let (first, end) = running.source(parts)?;
    let end = running.fan_out(end, &parts.plan)?;
    for (index, (branch, tap)) in parts.plan.branches.iter().zip(&parts.taps).enumerate() {
        running.branch(index, branch, tap, &end, parts)?;
    }
    running.pipeline.start().map_err(|error| Lost::open(error.reason))?;
    if let (Some(simulator), Ok(appsrc)) = (&parts.simulator, first.downcast()) {
        let driver = simulator.start(&appsrc).map_err(|error| Lost::open(error.to_string()))?;
        running.driver = Some(driver);
    }
    Ok(running)
}

impl Running {
    /// Source and shaping; the first element, and the one that renditions part from.
    fn source(&mut self, parts: &Parts) -> Result<(gst::Element, gst::Element), Lost> {
        let feed = &parts.plan.feed;
        let elements = self.add(&feed.elements)?;
        let shape = self.add(&parts.plan.shape)?;
        let chain: Vec<gst::Element> = elements.iter().chain(&shape).cloned().collect();
        let (first, end) = match (chain.first(), chain.last()) {
            (Some(first), Some(end)) => (first.clone(), end.clone()),
            _ => return Err(Lost::open("the source has no element")),
        };
        match (feed.pads, chain.as_slice()) {
            (Pads::OnConnect, [source, depayloader, ..]) => {
                link(&chain[1..])?;
                let events = parts.events.clone();
                let report = move |lost| drop(events.try_send(lost));
                self.signals.extend(rtsp::connect(source, depayloader, report));
                let pad = static_pad(depayloader, "src")?;
                self.probes.extend(probes::arrival(&pad, &self.marks, false));
            }
            _ => {
                link(&chain)?;
                let pad = static_pad(&first, "src")?;
                self.probes.extend(probes::arrival(&pad, &self.marks, true));
            }
        }
        Ok((first, end))
    }

    /// A tee where there are several renditions.
    fn fan_out(&mut self, end: gst::Element, plan: &Plan) -> Result<gst::Element, Lost> {
        if plan.branches.len() < 2 {
            return Ok(end);
        }
        let tee = self.add(&[Spec::new("tee")])?;
        link(&[std::slice::from_ref(&end), tee.as_slice()].concat())?;
        Ok(tee.into_iter().next().unwrap_or(end))
    }

    fn branch(
        &mut self,
        index: usize,
        branch: &Branch,
        tap: &Arc<Tap>,
        from: &gst::Element,
        parts: &Parts,
    ) -> Result<(), Lost> {
        let shape = self.add(&branch.shape)?;
        let encode = self.add(&branch.encoder)?;
        let parse = self.add(&branch.parse)?;
        let sink = tap.sink(index, &self.marks);
        self.pipeline.add(&sink).map_err(broken)?;
        let chain: Vec<gst::Element> =
            shape.iter().chain(&encode).chain(&parse).cloned().chain([sink]).collect();
        link(&chain)?;
        if let Some(first) = chain.first() {
            self.attach(from, first)?;
        }
        let Some(controlled) = encode.first().or(parse.first()) else {
            return Err(Lost::open("a rendition has neither encoder nor parser"));
        };
        let (sink, source) = (static_pad(controlled, "sink")?, static_pad(controlled, "src")?);
        self.probes.extend(probes::encoded(&source, &self.marks, index));
        if let (false, Some(simulator)) = (encode.is_empty(), &parts.simulator) {
            self.probes.extend(probes::stamp(&sink, simulator));
            self.probes.extend(probes::spoil(&source, simulator));
        }
        let kind = Kind::of(parts.plan.encoder);
        self.encoders.push(Encoder::new(kind, controlled.downgrade(), encoder::gstreamer()));
        Ok(())
    }

    /// Makes the elements and puts them into the pipeline.
    fn add(&self, specs: &[Spec]) -> Result<Vec<gst::Element>, Lost> {
        let elements: Result<Vec<gst::Element>, SpecError> =
            specs.iter().map(Spec::build).collect();
        let elements = elements.map_err(|error| Lost::open(error.to_string()))?;
        for element in &elements {
            self.pipeline.add(element).map_err(broken)?;
        }
        Ok(elements)
    }

    /// Links a rendition's first element to the tee, or to what there is instead of one.
    fn attach(&mut self, from: &gst::Element, first: &gst::Element) -> Result<(), Lost> {
        let is_tee = from.factory().is_some_and(|factory| factory.name() == "tee");
        if !is_tee {
            return from.link(first).map_err(broken);
        }
        let pad = guard::RequestPad::request(from, "src_%u")
            .ok_or_else(|| Lost::open("the tee has no pad left"))?;
        let sink = static_pad(first, "sink")?;
        pad.link(&sink).map_err(|error| Lost::open(format!("tee: {error}")))?;
        self.pads.push(pad);
        Ok(())
    }
}

fn static_pad(element: &gst::Element, name: &str) -> Result<gst::Pad, Lost> {
    element
        .static_pad(name)
        .ok_or_else(|| Lost::open(format!("{} has no pad {name}", element.name())))
}

fn link(elements: &[gst::Element]) -> Result<(), Lost> {
    gst::Element::link_many(elements).map_err(broken)
}

fn broken(error: glib::BoolError) -> Lost {
    Lost::open(error.to_string())
}

/// What a message says of the camera's end, if it says any.
fn lost(message: &gst::Message) -> Option<Lost> {
    let source = message.src().map(|source| source.name()).unwrap_or_default();
    match message.view() {
        gst::MessageView::Error(error) => {
            tracing::debug!(element = %source, debug = ?error.debug(), "pipeline error");
            Some(Lost::new(Cause::Error, format!("{source}: {}", error.error())))
        }
        gst::MessageView::Eos(_) => Some(Lost::new(Cause::Eos, "the camera ended its stream")),
        gst::MessageView::Warning(warning) => {
            tracing::warn!(element = %source, "{}", warning.error());
            None
        }
        _ => None,
    }
}
