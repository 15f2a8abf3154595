// Google's own in-memory Pub/Sub server (pstest) on a port of this machine, until it is told to end.
//
// pstest's own listener takes requests of 4 MB. The service takes 10 MB and calls larger ones invalid,
// so pstest is served here by a listener that does the same.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/pubsub/v2/pstest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	largestRequest = 10_000_000
	largestRead    = 10 * largestRequest
)

func main() {
	port := flag.Int("port", 8085, "where to listen, on 127.0.0.1")
	flag.Parse()

	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", *port))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}

	fake := pstest.NewServer()
	server := grpc.NewServer(grpc.MaxRecvMsgSize(largestRead), grpc.UnaryInterceptor(refuseOversize))
	pubsubpb.RegisterPublisherServer(server, &fake.GServer)
	pubsubpb.RegisterSubscriberServer(server, &fake.GServer)
	pubsubpb.RegisterSchemaServiceServer(server, &fake.GServer)

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
