//! `infer`: one network, once, with a file as the result.

use super::Failure;
use crate::args::InferArgs;
use crate::engine::EngineError;
use crate::infer::{InferError, InferRequest, TensorSource, infer};
use crate::network::NetworkError;

pub(super) fn run(args: &InferArgs) -> Result<(), Failure> {
    let seed = |text: &str, flag: &str| {
        TensorSource::parse(text).map_err(|error| {
            Failure::of(2, format!("--{flag} {text}"), &error, "write hashed:1, or a file's name")
        })
    };
    if args.batch == 0 {
        return Err(Failure {
            status: 2,
            what: "--batch 0".into(),
            because: vec!["an inference takes at least one image".into()],
            mend: "use --batch 1 or more",
        });
    }
    let target = |error: &dyn std::error::Error| {
        Failure::of(2, "the target cannot be used", error, "see `wattline-agent infer --help`")
    };
    let request = InferRequest {
        network: args.network.clone(),
        weights: seed(&args.weights, "weights")?,
        input: seed(&args.input, "input")?,
        batch: usize::try_from(args.batch).unwrap_or(usize::MAX),
        size: args.size.map(|size| usize::try_from(size).unwrap_or(usize::MAX)),
        processor: args.device.parse().map_err(|error| target(&error))?,
        precision: args.precision.parse().map_err(|error| target(&error))?,
        fold: !args.no_fold,
        output: args.output.clone(),
    };
    infer(&request).map_err(|error| failure(args, &error))
}

fn failure(args: &InferArgs, error: &InferError) -> Failure {
    let (status, mend) = match error {
        InferError::Network(NetworkError::Unknown(_)) => {
            (2, "name one of these, or a graph file that ends in .toml or .json")
        }
        InferError::Network(_) => {
            (2, "see to the file; `wattline networks NAME --graph` prints one that loads")
        }
        InferError::Tensors(_) | InferError::Engine(EngineError::Weights(_)) => (
            1,
            "use a safetensors or zip .pth file with the network's PyTorch names, or hashed:SEED",
        ),
        InferError::Engine(EngineError::CudaNotBuilt | EngineError::Open { .. }) => {
            (1, "install wattline-runner-cuda on a board with an NVIDIA GPU, or use --device cpu")
        }
        InferError::Engine(
            EngineError::Graph(_)
            | EngineError::Tf32OnCpu
            | EngineError::PrecisionNotOffered { .. }
            | EngineError::BatchTooLarge { .. },
        ) => (2, "choose another --size, --precision or --device"),
        InferError::Engine(_) => (1, ""),
        _ => (1, "see to the file, or choose another"),
    };
    Failure::of(status, format!("network {} gave no output", args.network), error, mend)
}
