// What a Go programmer would write in an afternoon: gopacket's TCP assembly, net/http's parser, bodies read and thrown
// away. `cargo xtask bench` compares with it. Prints the number of requests and of responses.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/google/gopacket/tcpassembly"
	"github.com/google/gopacket/tcpassembly/tcpreader"
)

var (
	requests, responses atomic.Int64
	running             sync.WaitGroup
)

type factory struct{ port gopacket.Endpoint }

func (f factory) New(_, transport gopacket.Flow) tcpassembly.Stream {
	stream := tcpreader.NewReaderStream()
	running.Add(1)
	go read(&stream, transport.Dst() == f.port)
	return &stream
}

// The reader must take every byte, or the assembler waits for it.
func read(stream *tcpreader.ReaderStream, toServer bool) {
	defer running.Done()
	buffered := bufio.NewReaderSize(stream, 64<<10)
	for {
		var body io.ReadCloser
		var count *atomic.Int64
		var err error
		if toServer {
			var request *http.Request
			if request, err = http.ReadRequest(buffered); err == nil {
				body, count = request.Body, &requests
			}
		} else {
			var response *http.Response
			if response, err = http.ReadResponse(buffered, nil); err == nil {
				body, count = response.Body, &responses
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			io.Copy(io.Discard, stream)
			return
		}
		if err != nil {
			continue
		}
		if _, err = io.Copy(io.Discard, body); err == nil {
			count.Add(1)
		}
		body.Close()
	}
}

func run(file string) error {
	from, err := os.Open(file)
	if err != nil {
		return err
	}
	defer from.Close()
	packets, err := pcapgo.NewReader(bufio.NewReaderSize(from, 1<<20))
	if err != nil {
		return err
	}
	pool := tcpassembly.NewStreamPool(factory{layers.NewTCPPortEndpoint(3000)})
	assembler := tcpassembly.NewAssembler(pool)
	var (
		ethernet layers.Ethernet
		ip       layers.IPv4
		tcp      layers.TCP
		found    []gopacket.LayerType
	)
	parser := gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet, &ethernet, &ip, &tcp)
	parser.IgnoreUnsupported = true
	for {
		data, info, err := packets.ReadPacketData()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if parser.DecodeLayers(data, &found) != nil || len(found) < 3 {
			continue
		}
		assembler.AssembleWithTimestamp(ip.NetworkFlow(), &tcp, info.Timestamp)
	}
	assembler.FlushAll()
	running.Wait()
	fmt.Printf("%d requests, %d responses\n", requests.Load(), responses.Load())
	return nil
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: gopacket-http FILE.pcap")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
