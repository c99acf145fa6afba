//go:build !linux

package main

import "errors"

func (c *viewerCounts) watch(generatorOrders, func(int)) error {
	return errors.New("bench-chat needs Linux: it reads its viewers by epoll")
}
