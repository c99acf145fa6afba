package bigdata_test
import ("os";"strconv")
func scale() float64 { f,_:=strconv.ParseFloat(os.Getenv("S"),64); return f}
