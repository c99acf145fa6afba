# One command each; make help lists them.
BIN := .devstack/bin
DEVSTACK := $(BIN)/devstack
TOOL = $(BIN)/$(1): tools/$(1)/go.mod ; @mkdir -p $(BIN) && echo "building $(1), once" >&2 && go build -modfile=tools/$(1)/go.mod -o $$@ $(2)

.DEFAULT_GOAL := help
.PHONY: help dev demo test bench-chat bench-archive bench-payments soak-chat soak-archive chaos-payments chaos-fanout lint bench bench-starts bench-fanout bench-api fuzz generate record build devstack

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: devstack ## start everything on this machine and keep it running until Ctrl-C
	@exec $(DEVSTACK) up

demo: devstack ## walk through the main job, on the running stack or one of its own
	@exec $(DEVSTACK) demo

test: devstack ## run every test on real components
	@exec $(DEVSTACK) test -- go test -race -p 1 -timeout 20m ./... # one package at a time: beside a transcoder and crash tests, others run out of time

bench: devstack ## measure the start of a stream, with 0 and with 100,000 followers
	@exec $(DEVSTACK) bench

bench-starts: devstack ## measure the start of a stream with up to 1,000,000 followers, at 50 starts/s, on Temporal with Postgres
	@exec $(DEVSTACK) bench-starts

bench-fanout: devstack ## measure how a million followers are told, beside one plain INSERT … SELECT
	@LIMITS=load exec $(DEVSTACK) bench-fanout

bench-api: devstack ## measure the API on a database of 1 million members, beside bare Gin and bare pgx
	@exec $(DEVSTACK) bench-api

fuzz: devstack ## send 100,000 requests that are made from the contract and then broken
	@exec $(DEVSTACK) test -- go test -count=1 -run TestContractFuzz -v ./httpapi -requests 100000

bench-chat: devstack ## measure the chat with 50,000 viewers, and melody as documented
	@exec $(DEVSTACK) test -- $(DEVSTACK) bench-chat

bench-archive: devstack ## measure the making of an archive of 10 minutes of 1080p30, and one plain FFmpeg command
	@exec $(DEVSTACK) bench-archive

bench-payments: devstack ## measure payments and Stripe's events, and take Stripe away for 2 minutes
	@exec $(DEVSTACK) bench-payments

soak-chat: devstack ## let the chat run for 10 minutes with cuts and restarts of Redis, and kill a node of three with 3,000 clients
	@exec $(DEVSTACK) test -- go test -count=1 -timeout 30m -v -run 'TestSoak|TestANodeIsKilled' ./chat -soak 10m -crowd 3000

chaos-payments: devstack ## make 10,000 payments while Stripe fails and processes are killed, and compare the books
	@exec $(DEVSTACK) test -- go test -count=1 -timeout 90m -v -run TestPaymentsInChaos ./e2e -payments 10000 -patience 15m

chaos-fanout: devstack ## tell 400,000 followers while the worker is killed 20 times, and Postgres, Redis and Temporal go away
	@exec $(DEVSTACK) test -- go test -count=1 -timeout 60m -v -run TestFanOutInChaos ./e2e -followers 400000 -worker-kills 20 -patience 20m

soak-archive: devstack ## kill the transcode worker five times, take the store away for a minute, end 20 streams at once
	@exec $(DEVSTACK) test -- go test -count=1 -timeout 30m -v -run 'TestTranscoderKilled|TestStoreAway|TestManyStreams' ./e2e -kills 5 -outage 1m -rush 20 -patience 20m

lint: $(BIN)/golangci-lint $(BIN)/workflowcheck ## check style, import directions, determinism and go.mod
	$(BIN)/golangci-lint run ./...
	$(BIN)/workflowcheck -config workflowcheck.yaml ./workflows/...
	go mod tidy -diff

generate: $(BIN)/oapi-codegen ## make the code that follows from the contract
	cd httpapi && ../$(BIN)/oapi-codegen -config oapi-codegen.yaml openapi.yaml

record: devstack ## record the workflows' histories anew, for the replay tests
	@exec $(DEVSTACK) test -- go test -count=1 -run TestRecord ./e2e/... -record

build: ## build the product
	go build -o $(BIN)/ ./cmd/livestream

devstack:
	@mkdir -p $(BIN) && go build -o $(BIN)/ ./cmd/devstack

$(eval $(call TOOL,golangci-lint,github.com/golangci/golangci-lint/v2/cmd/golangci-lint))
$(eval $(call TOOL,workflowcheck,go.temporal.io/sdk/contrib/tools/workflowcheck))
$(eval $(call TOOL,oapi-codegen,github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen))
