package livestream

import (
	"fmt"
	"strings"
)

// Stripe's amounts are in a currency's smallest unit. Most have a hundred of them;
// these have none smaller than the currency's own, or a thousand.
const (
	wholeCurrencies    = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf"
	thousandCurrencies = "bhd jod kwd omr tnd"
)

// FormatMoney shows an amount of minor units to people, as "5.00 USD" or "500 JPY".
// Nothing is calculated with it.
func FormatMoney(amount int64, currency string) string {
	code := strings.ToUpper(currency)
	sign := ""
	if amount < 0 {
		sign, amount = "-", -amount
	}
	switch {
	case strings.Contains(wholeCurrencies, currency):
		return fmt.Sprintf("%s%d %s", sign, amount, code)
	case strings.Contains(thousandCurrencies, currency):
		return fmt.Sprintf("%s%d.%03d %s", sign, amount/1000, amount%1000, code)
	}
	return fmt.Sprintf("%s%d.%02d %s", sign, amount/100, amount%100, code)
}
