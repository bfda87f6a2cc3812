// Command localkms serves the emulator local-kms on a loopback address. Its own command listens on every address.
//
// usage: localkms ADDRESS DIRECTORY REGION ACCOUNT        It prints the address when it listens.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	kms "github.com/nsmithuk/local-kms/src"
	"github.com/nsmithuk/local-kms/src/config"
	"github.com/nsmithuk/local-kms/src/data"
)

func main() {
	if len(os.Args) != 5 {
		log.Fatal("usage: localkms ADDRESS DIRECTORY REGION ACCOUNT")
	}
	address := os.Args[1]
	config.DatabasePath, config.AWSRegion, config.AWSAccountId = os.Args[2], os.Args[3], os.Args[4]

	listener, err := net.Listen("tcp", address)
	if err != nil {
		log.Fatal(err)
	}
	if !listener.Addr().(*net.TCPAddr).IP.IsLoopback() {
		log.Fatalf("%s is not a loopback address", address)
	}
	database := data.NewDatabase(config.DatabasePath)
	defer database.Close()
	fmt.Println(listener.Addr())
	handler := func(answer http.ResponseWriter, request *http.Request) {
		kms.HandleRequest(answer, request, database)
	}
	log.Fatal(http.Serve(listener, http.HandlerFunc(handler)))
}
