# Wattline: the commands people and CI use. One profile (release) serves all of
# them, so that every dependency is compiled once.
CARGO ?= cargo

.PHONY: demo test nights virtual-board setup build packages lint deny check fuzz-smoke measure doc clean

demo: setup build        ## quick campaign on the simulated board; ends with the report's path
	@deploy/demo.sh

test: setup build        ## every test, the 10,000 nights and the planted bugs among them
	$(CARGO) test --release --locked --workspace

nights: setup            ## 10,000 simulated nights, and every planted bug caught
	$(CARGO) test --release --locked --workspace --test ten_thousand_nights --test planted_bugs

virtual-board: setup build  ## deploy, runs, faults and a night on an emulated board with a real kernel
	@tests/virtual-board/run.sh

setup:                   ## install what build and tests need (Debian, Ubuntu)
	@deploy/setup.sh

build:                   ## wattline and wattline-agent into target/release
	$(CARGO) build --release --locked --workspace

packages:                ## Debian packages and tarballs, for amd64 and arm64, into target/packages
	@deploy/packages.sh

lint:                    ## formatting, and clippy with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- --deny warnings

deny:                    ## licences, sources and bans of all dependencies
	@deploy/deny.sh

check: demo test fuzz-smoke lint deny   ## all that CI does

fuzz-smoke: setup        ## every decoder of the protocol, a short while each
	for target in frames records blocks commands campaigns; do tests/fuzz/run.sh $$target 100000 || exit 1; done

measure:                 ## the figures Wattline states about itself
	$(CARGO) measure

doc:                     ## API documentation, warnings denied
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --release --locked --no-deps --workspace

clean:                   ## what was built; recordings stay
	$(CARGO) clean
