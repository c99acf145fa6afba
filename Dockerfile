# One binary, one role a container. The transcode image adds FFmpeg.
#   docker build --target product   -t livestream .
#   docker build --target transcode -t livestream-transcode .
#   docker build --target stripesim -t livestream-stripesim .   (development only)
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /out/ ./cmd/livestream ./cmd/devstack

FROM debian:bookworm-slim AS base
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --create-home livestream

FROM base AS transcode
RUN apt-get update \
 && apt-get install -y --no-install-recommends ffmpeg \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /out/livestream /usr/local/bin/livestream
USER livestream
ENTRYPOINT ["livestream"]

FROM base AS stripesim
COPY --from=build /out/devstack /usr/local/bin/devstack
USER livestream
ENTRYPOINT ["devstack", "stripesim"]

FROM base AS product
COPY --from=build /out/livestream /usr/local/bin/livestream
USER livestream
ENTRYPOINT ["livestream"]
