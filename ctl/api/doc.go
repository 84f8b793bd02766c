// Package api is what a program needs to talk to a running director: the types of requests and
// responses beyond those of ctl/config, and a Client for its API. It links neither the
// director nor its rings or its guard.
//
//	client, err := api.Dial(api.SocketPath())
//	services, err := client.Services()
//	err = client.Apply(config.Op{Kind: config.DeleteService, Service: &services[0].Service})
package api
