// Google's own in-memory Pub/Sub server (pstest) on a port of this machine, until it is told to end.
//
// Two things are done here as the service does them, since pstest does not:
// requests may have 10 MB, and larger ones are invalid (pstest's own listener takes 4 MB);
// a pull that finds nothing is answered as soon as there is something (pstest looks again once, after half a second).
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	largestRequest = 10_000_000
	largestRead    = 10 * largestRequest
	longestPull    = 30 * time.Second
	look           = 100 * time.Millisecond // for what comes without a request: the end of an ack deadline
)

func main() {
	port := flag.Int("port", 8085, "where to listen, on 127.0.0.1")
	flag.Parse()

	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}

	fake := &pstest.NewServer().GServer
	subscriber := &subscriber{GServer: fake, events: events{next: map[string]chan struct{}{}}}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(largestRead), grpc.UnaryInterceptor(refuseOversize))
	pubsubpb.RegisterPublisherServer(server, &publisher{fake, &subscriber.events})
	pubsubpb.RegisterSubscriberServer(server, subscriber)
	pubsubpb.RegisterSchemaServiceServer(server, fake)

	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-ended
		server.Stop()
	}()

	fmt.Println("listening on", listener.Addr())
	if err := server.Serve(listener); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func refuseOversize(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if message, ok := request.(proto.Message); ok && proto.Size(message) > largestRequest {
		return nil, status.Errorf(codes.InvalidArgument, "the request has more than %d bytes", largestRequest)
	}
	return handle(ctx, request)
}

// events tells whoever waits that something has happened to a topic or a subscription.
type events struct {
	mutex sync.Mutex
	next  map[string]chan struct{}
}

// of is closed by the next event of that name.
func (e *events) of(name string) <-chan struct{} {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if e.next[name] == nil {
		e.next[name] = make(chan struct{})
	}
	return e.next[name]
}

func (e *events) happened(name string) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if next := e.next[name]; next != nil {
		close(next)
		delete(e.next, name)
	}
}

type publisher struct {
	*pstest.GServer
	events *events
}

func (p *publisher) Publish(ctx context.Context, request *pubsubpb.PublishRequest) (*pubsubpb.PublishResponse, error) {
	defer p.events.happened(request.Topic)
	return p.GServer.Publish(ctx, request)
}

type subscriber struct {
	*pstest.GServer
	events events
}

// Acknowledge may let the next message of an ordering key go.
func (s *subscriber) Acknowledge(ctx context.Context, request *pubsubpb.AcknowledgeRequest) (*emptypb.Empty, error) {
	defer s.events.happened(request.Subscription)
	return s.GServer.Acknowledge(ctx, request)
}

// ModifyAckDeadline gives a message back when the deadline is none.
func (s *subscriber) ModifyAckDeadline(
	ctx context.Context, request *pubsubpb.ModifyAckDeadlineRequest,
) (*emptypb.Empty, error) {
	if request.AckDeadlineSeconds == 0 {
		defer s.events.happened(request.Subscription)
	}
	return s.GServer.ModifyAckDeadline(ctx, request)
}

// Pull looks again after everything that may have brought a message.
func (s *subscriber) Pull(ctx context.Context, request *pubsubpb.PullRequest) (*pubsubpb.PullResponse, error) {
	waits := !request.ReturnImmediately
	request.ReturnImmediately = true
	for end := time.Now().Add(longestPull); ; {
		subscription, err := s.GetSubscription(ctx, &pubsubpb.GetSubscriptionRequest{Subscription: request.Subscription})
		if err != nil {
			return nil, err
		}
		published, returned := s.events.of(subscription.Topic), s.events.of(request.Subscription)
		response, err := s.GServer.Pull(ctx, request)
		if err != nil || !waits || len(response.ReceivedMessages) > 0 || time.Now().After(end) {
			return response, err
		}
		select {
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		case <-published:
		case <-returned:
		case <-time.After(look):
		}
	}
}
