// Package s3 keeps recordings and archives in an S3 bucket. It knows keys and
// bytes, not what they mean.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	livestream "github.com/livestream-pro/livestream-pro"
)

// Config says where the bucket is.
type Config struct {
	// Endpoint is the address of an S3-compatible store; empty is AWS.
	Endpoint string
	// PublicEndpoint is the address by which clients reach the same store, for
	// presigned addresses; empty is Endpoint.
	PublicEndpoint string
	// Region; empty is us-east-1.
	Region string
	Bucket string
	// AccessKey and SecretKey sign requests. Without them AWS's own chain is asked: the
	// environment, the shared files, the role of the task or of the instance.
	AccessKey, SecretKey string
	// CallTimeout bounds a call that carries no media, and the wait for the first
	// byte of one that does; default 10 s.
	CallTimeout time.Duration
	// StallTimeout is how long a transfer may stand still; default 15 s.
	StallTimeout time.Duration
	// Transport wraps what carries the calls, to measure them; nil leaves it as it is.
	Transport func(http.RoundTripper) http.RoundTripper
}

// Bucket is one bucket of an S3-compatible store.
type Bucket struct {
	name    string
	timeout time.Duration
	stall   time.Duration
	client  *s3.Client
	presign *s3.PresignClient
}

// Open makes a client for the bucket; it connects, and asks for credentials, on
// first use.
func Open(ctx context.Context, config Config) (*Bucket, error) {
	if config.Bucket == "" {
		return nil, errors.New("s3: a bucket is needed")
	}
	if (config.AccessKey == "") != (config.SecretKey == "") {
		return nil, errors.New("s3: an access key and its secret go together")
	}
	if config.Region == "" {
		config.Region = "us-east-1"
	}
	if config.CallTimeout == 0 {
		config.CallTimeout = 10 * time.Second
	}
	if config.StallTimeout == 0 {
		config.StallTimeout = 15 * time.Second
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	transport.DialContext = (&net.Dialer{Timeout: 3 * time.Second}).DialContext
	if config.PublicEndpoint == "" {
		config.PublicEndpoint = config.Endpoint
	}
	var carrier http.RoundTripper = transport
	if config.Transport != nil {
		carrier = config.Transport(transport)
	}
	keys, err := credentialsOf(ctx, config)
	if err != nil {
		return nil, err
	}
	options := s3.Options{
		Region:       config.Region,
		Credentials:  keys,
		UsePathStyle: config.Endpoint != "",
		HTTPClient:   &http.Client{Transport: carrier},
		// Stores other than AWS do not all know the newer checksums.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenRequired,
	}
	return &Bucket{
		name: config.Bucket, timeout: config.CallTimeout, stall: config.StallTimeout,
		client:  s3.New(options, at(config.Endpoint)),
		presign: s3.NewPresignClient(s3.New(options, at(config.PublicEndpoint))),
	}, nil
}

func credentialsOf(ctx context.Context, config Config) (aws.CredentialsProvider, error) {
	if config.AccessKey != "" {
		return credentials.NewStaticCredentialsProvider(config.AccessKey, config.SecretKey, ""), nil
	}
	found, err := awsconfig.LoadDefaultConfig(ctx, awsconfig.WithRegion(config.Region))
	if err != nil {
		return nil, fmt.Errorf("s3: find credentials: %w", err)
	}
	return found.Credentials, nil
}

func at(endpoint string) func(*s3.Options) {
	return func(o *s3.Options) {
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
	}
}

// Ping asks whether the bucket is there.
//
// Errors: unavailable.
func (b *Bucket) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	_, err := b.client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.name})
	return edge("head bucket", err)
}

// edge wraps an error of the store. A store that cannot be reached or fails by
// itself is "unavailable", so that callers wait and try again.
func edge(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	var api smithy.APIError
	if errors.As(err, &api) && api.ErrorFault() == smithy.FaultClient {
		return fmt.Errorf("%s: %w", what, err)
	}
	return livestream.Unavailable("the media store", fmt.Errorf("%s: %w", what, err))
}

// isMissing says whether the store answered that there is no such thing.
func isMissing(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode() {
	case "NoSuchKey", "NotFound", "NoSuchUpload":
		return true
	}
	return false
}
